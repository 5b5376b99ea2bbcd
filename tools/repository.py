"""Write the repository's URL, ``repository: url`` in _config.yml, wherever else it is needed.

These are the first code cell of every chapter (tools/first_cell.py, which installs tlnb in
Colab), CITATION.cff, pyproject.toml and the badges of the README. With an empty URL they are
cleared of it. Run it as ``make repository``.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent


def repository_url() -> str:
    """Return the URL in _config.yml, empty if there is none."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))["repository"]["url"]


def first_cell(url: str) -> str:
    """Return the source of a chapter's first code cell."""
    template = (ROOT / "tools" / "first_cell.py").read_text(encoding="utf8")
    return template.replace('REPOSITORY = ""', f'REPOSITORY = "{url}"').rstrip("\n")


def citation(text: str, url: str) -> str:
    """Return the text of CITATION.cff with the URL, or without one."""
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.MULTILINE)
    return text.replace("\nlicense:", f'\nrepository-code: "{url}"\nlicense:') if url else text


def pyproject(text: str, url: str) -> str:
    """Return the text of pyproject.toml with the URL, or without one."""
    text = re.sub(r'\[project\.urls\]\nRepository = ".*"\n\n', "", text)
    urls = f'[project.urls]\nRepository = "{url}"\n\n' if url else ""
    return text.replace("[project.scripts]", urls + "[project.scripts]")


def badges(text: str, url: str) -> str:
    """Return the text of README.md with badges between its two marks, or with none."""
    start, end = "<!-- badges -->", "<!-- end of badges -->"
    shown = ""
    if url:
        tests = f"{url}/actions/workflows/book.yml"
        launch = url.replace("https://github.com/", "https://mybinder.org/v2/gh/")
        shown = (
            f"[![tests]({tests}/badge.svg)]({tests})\n"
            "[![Binder](https://mybinder.org/badge_logo.svg)]"
            f"({launch}/HEAD?urlpath=lab/tree/notebooks)\n"
            f"[![code: BSD 3-Clause](https://img.shields.io/badge/code-BSD_3--Clause-blue)]"
            f"({url}/blob/HEAD/LICENSE)\n"
            f"[![text: CC BY 4.0](https://img.shields.io/badge/text-CC_BY_4.0-blue)]"
            f"({url}/blob/HEAD/LICENSE-text)\n"
        )
    between = re.compile(f"{start}.*?{end}", re.DOTALL)
    return between.sub(f"{start}\n{shown}{end}", text)


# What is stamped, beside the first cells: the file, and its text and a URL to the new text.
STAMPS = {"CITATION.cff": citation, "pyproject.toml": pyproject, "README.md": badges}


def main() -> None:
    """Stamp or clear every place."""
    url = repository_url()
    for name, stamp in STAMPS.items():
        path = ROOT / name
        path.write_text(stamp(path.read_text(encoding="utf8"), url), encoding="utf8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
        if cell.source != first_cell(url):
            cell.source = first_cell(url)
            nbformat.write(notebook, path)
    print(f"Repository: {url}" if url else "No repository is set in _config.yml: all cleared")


if __name__ == "__main__":
    main()
