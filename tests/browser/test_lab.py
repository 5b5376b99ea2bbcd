"""A reader opens the book through `make serve`, and a chapter in JupyterLab, and runs cells."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

from tests.browser import site

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "01_infinite_width.ipynb"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def _running(command: list[str], url: str, **options: object) -> Iterator[None]:
    """A server that answers at ``url``."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **quiet, **options)
    try:
        for _ in range(300):
            with suppress(URLError, ConnectionError):
                urlopen(url, timeout=5).close()
                break
            assert server.poll() is None, f"{command[:4]} ended"
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait(30)


def test_make_serve_shows_the_book(browser: Any) -> None:
    """With the command of the Makefile, on this site."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    (arguments,) = re.findall(r"\$\(BIN\)/python -m (http\.server .+) \$\(PORT\)", makefile)
    port = _free_port()
    words = [str(site.SITE) if word == "_build/html" else word for word in arguments.split()]
    url = f"http://127.0.0.1:{port}"
    with _running([sys.executable, "-m", *words, str(port)], url):
        page = browser.new_page()
        page.goto(url)  # the root leads to the landing page
        page.wait_for_selector(".bd-article h1")
        page.locator(".chapter-cards a").first.click()
        page.wait_for_selector(".bd-article .cell_input", state="attached")
        page.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab on a chapter without outputs, in a folder that looks like a clone."""
    if not importlib.util.find_spec("jupyterlab"):
        pytest.skip("JupyterLab is not installed: pip install -r requirements.txt")
    clone = tmp_path_factory.mktemp("clone")
    (clone / "notebooks").mkdir()
    for name in ("tlnb", "results"):
        (clone / name).symlink_to(ROOT / name)
    chapter = nbformat.read(ROOT / "notebooks" / CHAPTER, as_version=4)
    for cell in chapter.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(chapter, clone / "notebooks" / CHAPTER)
    here = tmp_path_factory.mktemp("jupyter")
    variables = {f"JUPYTER_{k}_DIR": str(here / k) for k in ("CONFIG", "RUNTIME", "DATA")}
    variables |= {"IPYTHONDIR": str(here / "ipython"), "OPENBLAS_NUM_THREADS": "1"}
    port = _free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={port}", f"--ServerApp.root_dir={clone}", "--allow-root"]
    command += [
        "--IdentityProvider.token=",
        "--LabApp.news_url=",
        "--LabApp.extension_manager=readonly",
    ]
    with _running(command, f"http://127.0.0.1:{port}/api/status", env=os.environ | variables):
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks/{CHAPTER}"


def test_cells_of_a_chapter_run_in_jupyterlab_up_to_the_first_figure(
    browser: Any, lab: str
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(lab)
    page.wait_for_selector(".jp-CodeCell", state="attached", timeout=120_000)
    page.wait_for_selector(
        ".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached", timeout=120_000
    )
    page.locator(".jp-MarkdownCell").first.click()
    figure = page.locator(".jp-OutputArea-output img")
    for _ in range(12):  # the first figure is in the third cell of code
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(500)
        if figure.count():
            break
    figure.first.wait_for(state="attached", timeout=120_000)
    assert not page.locator(".jp-RenderedText[data-mime-type*=stderr]").count()
    page.close()
