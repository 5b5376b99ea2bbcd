"""The book's configuration and pages agree with each other and with the package."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import repository
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tlnb

ROOT = Path(__file__).resolve().parent.parent
URL = "https://github.com/owner/name"


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf8")


def test_contents_list_every_chapter_and_only_what_exists() -> None:
    toc = yaml.safe_load(_read("_toc.yml"))
    listed = [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]
    pages = {path.stem for path in (ROOT / "book").glob("*.md")}
    chapters = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert len(listed) == len(set(listed))
    assert {Path(name).name for name in listed if name.startswith("book/")} == pages
    in_order = [Path(name).name for name in listed if name.startswith("notebooks/")]
    assert in_order == sorted(chapters)


def test_reference_lists_every_module() -> None:
    listed = set(re.findall(r"automodule:: ([\w.]+)", _read("book/api.md")))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "tlnb").rglob("*.py")
        if path.stem[0] != "_"
    }
    assert listed == modules


def test_names_most_used_have_an_example_and_stand_where_the_reference_says() -> None:
    row = re.compile(r"^\| \{py:obj\}`(\w+) <([\w.]+)\.\1>` \| `([\w.]+)` \|", re.MULTILINE)
    rows = row.findall(_read("book/api.md"))
    assert 25 <= len(rows) <= 40
    for name, home, front in rows:
        found = getattr(importlib.import_module(front), name)
        assert found is getattr(importlib.import_module(home), name)
        assert ">>>" in found.__doc__, f"{home}.{name} has no example"


def test_every_paper_cited_in_a_page_is_in_the_bibliography() -> None:
    keys = set(re.findall(r"^@\w+\{([^,]+),", _read("book/references.bib"), re.MULTILINE))
    for path in [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        groups = re.findall(r"\{cite(?::\w)?\}`([^`]+)`", path.read_text(encoding="utf8"))
        cited = {key.strip() for group in groups for key in group.split(",")}
        assert cited <= keys, path.name


def test_every_paper_cited_in_the_article_is_in_its_bibliography() -> None:
    text = _read("paper/paper.md")
    keys = set(re.findall(r"^@\w+\{([^,]+),", _read("paper/paper.bib"), re.MULTILINE))
    assert set(re.findall(r"@(\w+)", text)) == keys
    assert not re.search(r"TODO|TBD|XXX|0000-0000|placeholder", text, re.IGNORECASE)


def test_links_between_pages_lead_somewhere() -> None:
    for path in [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        text = path.read_text(encoding="utf8")
        links = re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))(?:#[\w-]*)?\)", text)
        missing = [link for link in links if not (path.parent / link).exists()]
        assert not missing, path.name


def test_repository_stands_in_one_place_and_elsewhere_agrees() -> None:
    url = repository.repository_url()
    for name, stamp in repository.STAMPS.items():
        text = _read(name)
        assert stamp(text, url) == text
        stamped = stamp(text, URL)
        assert URL in stamped and stamp(stamped, url) == text
    assert f'REPOSITORY = "{URL}"' in repository.first_cell(URL)


@pytest.mark.parametrize(
    ("url", "folder", "expected"),
    [
        ("", "checkout/notebooks", "found in checkout/notebooks"),
        ("", "elsewhere", "ImportError: tlnb is not installed"),
        (URL, "checkout/notebooks", "found in checkout/notebooks"),
        (URL, "elsewhere", "found in elsewhere/tlnb-book/notebooks"),
        (URL, "cloned", "found in cloned/tlnb-book/notebooks"),  # started again
    ],
)
def test_first_cell_finds_clones_or_says_what_to_do(
    tmp_path: Path, url: str, folder: str, expected: str
) -> None:
    """With git and pip replaced by what they leave behind."""
    for checkout in ("checkout", "cloned/tlnb-book", "elsewhere"):
        (tmp_path / checkout / "notebooks").mkdir(parents=True)
    for checkout in ("checkout", "cloned/tlnb-book"):
        (tmp_path / checkout / "tlnb").symlink_to(ROOT / "tlnb")
    code = f"""
import os, pathlib, shutil, subprocess
def run(command, check):
    print(*command)
    if "clone" in command:
        shutil.copytree({str(tmp_path / "checkout")!r}, command[-1], symlinks=True)
subprocess.run = run
{repository.first_cell(url)}
import tlnb
print("found in", os.getcwd())
"""
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],  # without the environment's own tlnb
        cwd=tmp_path / folder,
        text=True,
        capture_output=True,
    )
    output = (process.stdout + process.stderr).replace(f"{tmp_path.resolve()}/", "")
    assert expected in output
    assert ("git clone" in output) == (url != "" and folder == "elsewhere")
    assert ("-m pip install" in output) == (url != "" and folder != "checkout/notebooks")


def test_citation_file_names_both_papers() -> None:
    citation = yaml.safe_load(_read("CITATION.cff"))
    assert citation["version"] == tlnb.__version__
    assert f"## {tlnb.__version__}" in _read("CHANGELOG.md")
    dois = {reference["doi"] for reference in citation["references"]}
    assert dois == {"10.1103/PhysRevLett.134.177301", "10.1088/2632-2153/ac4f3f"}
    for doi in dois:
        assert doi in _read("book/references.bib") and doi in _read("README.md")


def test_requirements_are_pinned_and_name_no_host() -> None:
    lines = [line for line in _read("requirements.txt").splitlines() if line[:1] != "#"]
    assert lines[-1] == "-e ."
    pinned = re.compile(r"[\w.-]+==[\w.]+( ; [\w.'<>=!() ]+)?")
    assert all(pinned.fullmatch(line) for line in lines[:-1])


def test_requirements_hold_every_declared_dependency() -> None:
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"].values()
    declared = [Requirement(text) for text in chain(project["dependencies"], *extras)]
    pins = [Requirement(line) for line in _read("requirements.txt").splitlines() if "==" in line]
    locked = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    for requirement in declared:
        if requirement.name == "tlnb":
            assert requirement.extras <= set(project["optional-dependencies"])
            continue
        (pin,) = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), requirement


def test_readme_examples_print_what_they_say() -> None:
    block = r"```python\n(.*?)```.*?```text\n(.*?)```"
    examples = re.findall(block, _read("README.md"), re.S)
    assert len(examples) == 2
    for source, expected in examples:
        assert len(source.strip().splitlines()) <= 15
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
        assert printed.getvalue() == expected


def test_readme_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", _read("README.md"))
    assert links and all((ROOT / link).exists() for link in links)
