"""Does with this repository what Binder and Colab do, as far as it can: ``make binder``.

*Binder.* repo2docker, which builds Binder's images, is asked which steps it would take for a fresh
clone. They are taken in an empty environment of the Python that runtime.txt names, which first gets
the servers that Binder's own environment has, of the same versions; the container around it is
left out. Then JupyterLab is started there, and a chapter is executed through its REST and websocket
interface, as a reader's browser would.

*Colab.* The first cell of a chapter runs in an empty environment, outside of any clone, with the
clone as the repository it is told of; then the rest of the chapter.

It works on what is committed, in _build/binder.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import nbformat
import repository
from tornado.websocket import websocket_connect

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "_build" / "binder"
CHAPTER = "notebooks/01_infinite_width.ipynb"
TOKEN = "reader"

#: Run by the Python that has repo2docker, in the clone: its steps, and its environment's servers.
ASK = """
import json, pathlib, re, repo2docker.buildpacks as packs
for kind in (packs.DockerBuildPack, packs.CondaBuildPack, packs.PythonBuildPack):
    try:
        pack = kind("docker.io/library/buildpack-deps:jammy")
    except TypeError:
        pack = kind()
    if kind.__name__ == "PythonBuildPack" or (pack.binder_dir and pack.detect()):
        break
folder = pathlib.Path(packs.__file__).parent / "conda"
wanted = re.findall(r"^ *- ([\\w-]+)[=<> ]", (folder / "environment.yml").read_text(), re.M)
locked = folder / f"environment.py-{pack.python_version}-linux-64.lock"
locked = locked if locked.exists() else folder / f"environment.py-{pack.python_version}.lock"
pins = dict(re.findall(r"/([\\w.-]+?)-(\\d[\\w.]*)-[\\w]+\\.(?:conda|tar)", locked.read_text()))
scripts = [s for _, s in pack.get_preassemble_scripts() + pack.get_assemble_scripts()]
base = {name: pins[name] for name in wanted if name in pins}
found = {"pack": kind.__name__, "detected": pack.detect(), "python": pack.python_version}
print(json.dumps(found | {"scripts": scripts, "base": base}))
"""
#: Of Binder's environment, what PyPI has under the same name.
SERVERS = {
    "jupyterhub-singleuser": "jupyterhub",
    "jupyterlab": "jupyterlab",
    "notebook": "notebook",
}


def _run(command: list[str | Path], **options: object) -> str:
    done = subprocess.run(command, text=True, capture_output=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _environment(folder: Path, python: str) -> Path:
    """An empty virtual environment; its directory of programs."""
    _run([python, "-m", "venv", "--clear", folder])
    return folder / "bin"


def python_of(runtime: str) -> str:
    """The interpreter that runtime.txt asks for."""
    name = runtime.strip().replace("python-", "python")
    found = shutil.which(name)
    if not found:
        sys.exit(f"Skipped: runtime.txt asks for {name}, and there is none here")
    return found


def build_as_binder(clone: Path, python: str) -> Path:
    """Take repo2docker's steps; the directory of programs of the environment that comes out."""
    asker = _environment(FOLDER / "repo2docker", python)
    _run([asker / "pip", "install", "-q", "-r", ROOT / "requirements-binder.txt"])
    told = json.loads(_run([asker / "python", "-c", ASK], cwd=clone).splitlines()[-1])
    if not (told["pack"] == "PythonBuildPack" and told["detected"] and told["scripts"]):
        sys.exit(f"repo2docker would not build this as a Python repository: {told}")
    programs = _environment(FOLDER / "environment", python)
    base = [f"{SERVERS[n]}=={v}" for n, v in told["base"].items() if n in SERVERS]
    _run([programs / "pip", "install", "-q", *base])
    prefix = str(programs.parent)
    variables = os.environ | {"KERNEL_PYTHON_PREFIX": prefix, "NB_PYTHON_PREFIX": prefix}
    for script in told["scripts"]:
        _run(["bash", "-ec", script], cwd=clone, env=variables)
    print(f"Binder: {told['pack']}, Python {told['python']}, on {', '.join(base)}")
    for script in told["scripts"]:
        print("  ran:", " ".join(script.split()))
    return programs


@contextmanager
def jupyterlab(programs: Path, folder: Path) -> Iterator[str]:
    """JupyterLab on a folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = FOLDER / "jupyter"
    variables = {name: str(here / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    variables |= {"JUPYTER_RUNTIME_DIR": str(here / "run"), "IPYTHONDIR": str(here / "ipython")}
    variables |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command: list[str | Path]
    command = [programs / "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    here.mkdir(parents=True, exist_ok=True)
    with (here / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                with suppress(URLError, ConnectionError):
                    _ask(address, "api/status")
                    break
                if server.poll() is not None:
                    sys.exit(f"JupyterLab did not start:\n{(here / 'log').read_text()[-3000:]}")
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()
            server.wait(30)


def _ask(address: str, path: str, body: dict | None = None) -> dict | str:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{address}/{path}", data, {"Authorization": f"token {TOKEN}"})
    with urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
        return json.loads(text) if "json" in answer.headers["Content-Type"] else text


async def execute(address: str, path: str) -> dict[str, int]:
    """Run every cell of a notebook as a browser does; how many cells, errors and figures."""
    page = _ask(address, f"lab/tree/{path}")
    if "jupyter-config-data" not in page:
        raise RuntimeError("JupyterLab's page is not what it should be")
    notebook = _ask(address, f"api/contents/{path}")
    assert isinstance(notebook, dict)
    session = {"path": path, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
    started = _ask(address, "api/sessions", session)
    assert isinstance(started, dict)
    kernel = started["kernel"]["id"]
    socket_address = address.replace("http", "ws") + f"/api/kernels/{kernel}/channels?token={TOKEN}"
    channel = await websocket_connect(socket_address, max_message_size=2**28)
    seen = {"cells": 0, "errors": 0, "figures": 0}
    for cell in notebook["content"]["cells"]:
        if cell["cell_type"] != "code" or not cell["source"].strip():
            continue
        seen["cells"] += 1
        name = uuid.uuid4().hex
        header: dict[str, Any] = {
            "msg_id": name,
            "msg_type": "execute_request",
            "username": "reader",
        }
        header |= {"session": session["path"], "version": "5.3", "date": ""}
        content: dict[str, Any] = {
            "code": cell["source"],
            "silent": False,
            "store_history": True,
        }
        content |= {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        message: dict[str, Any] = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
        }
        await channel.write_message(json.dumps(message | {"channel": "shell", "buffers": []}))
        waiting = {"reply", "idle"}
        while waiting:
            text = await channel.read_message()
            if text is None:
                raise RuntimeError("the kernel hung up")
            answer = json.loads(text)
            if answer["parent_header"].get("msg_id") != name:
                continue
            kind, content = answer["msg_type"], answer["content"]
            if kind == "execute_reply":
                waiting.discard("reply")
                seen["errors"] += content["status"] != "ok"
            elif kind == "status" and content["execution_state"] == "idle":
                waiting.discard("idle")
            elif kind == "display_data" and "image/png" in content["data"]:
                seen["figures"] += 1
    channel.close()
    return seen


def run_as_colab(clone: Path, python: str) -> int:
    """The cells of a chapter in an empty environment, none of them in a clone; how many ran."""
    programs = _environment(FOLDER / "colab", python)
    chapter = nbformat.read(clone / CHAPTER, as_version=4)
    cells = [c.source for c in chapter.cells if c.cell_type == "code" and c.source.strip()]
    cells[0] = repository.first_cell(f"file://{clone}")
    content = FOLDER / "content"
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir()
    script = content / "chapter.py"
    script.write_text("\n\n".join(cells), encoding="utf8")
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    variables |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    _run([programs / "python", "-I", script], cwd=content, env=variables)
    return len(cells)


def main() -> None:
    """Both, one after the other."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        sys.exit("Skipped: this needs git, and a clone of the repository")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    clone = FOLDER / "clone"
    _run(["git", "clone", "-q", "--no-hardlinks", ROOT, clone])
    python = python_of((clone / "runtime.txt").read_text(encoding="utf8"))
    programs = build_as_binder(clone, python)
    with jupyterlab(programs, clone) as address:
        began = time.perf_counter()
        seen = asyncio.run(execute(address, CHAPTER))
        seconds = time.perf_counter() - began
    said = ", ".join(f"{n} {what}" for what, n in seen.items())
    print(f"Binder: JupyterLab ran {CHAPTER} in {seconds:.0f} s: {said}")
    if seen["errors"] or not seen["figures"]:
        sys.exit("Binder: the chapter did not run")
    cells = run_as_colab(clone, python)
    print(f"Colab: the first cell cloned and installed, then {cells - 1} cells of the chapter ran")


if __name__ == "__main__":
    main()
