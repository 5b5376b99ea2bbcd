"""Sphinx extension of the book: buttons, versions, chapter numbers, readable docstrings.

Repository, Binder and Colab buttons exist if and only if ``repository: url`` in _config.yml names
a repository, so that no button ever points at an address that does not exist.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import version

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles

_SHOWN = ("numpy", "scipy", "sympy", "scikit-learn", "matplotlib", "xarray", "jupyter-book")


def _add_buttons(app: Sphinx, config: Config) -> None:
    if config.html_theme_options.get("repository_url"):
        config.html_theme_options |= {
            "use_repository_button": True,
            "use_issues_button": True,
            "launch_buttons": {
                "notebook_interface": "jupyterlab",
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
            },
        }


def _add_versions(app: Sphinx, config: Config) -> None:
    versions = [f"{name} {version(name)}" for name in _SHOWN]
    config.myst_substitutions["versions"] = ", ".join(
        [f"Python {platform.python_version()}", *versions]
    )


_assign_section_numbers = TocTreeCollectorWithStyles.assign_section_numbers


def _number_as_files(self: TocTreeCollectorWithStyles, env: BuildEnvironment) -> list[str]:
    """Number a chapter as its file is: 05_name is chapter 5 also while 04 is not written."""
    rewritten = _assign_section_numbers(self, env)
    for page, numbers in env.toc_secnumbers.items():
        if match := re.search(r"(?:^|/)(\d\d)_[^/]*$", page):
            chapter = int(match[1])
            env.toc_secnumbers[page] = {a: (chapter, *n[1:]) for a, n in numbers.items()}
            env.titles[page]["secnumber"] = [chapter]
            for entry in env.tocs[page].findall(nodes.reference):
                if entry.get("secnumber"):
                    entry["secnumber"] = [chapter, *entry["secnumber"][1:]]
    return rewritten


def _plain_text_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Show indented formulas as they were typed, and take bars for absolute values."""
    result: list[str] = []
    inside = section = False
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        section = section or re.fullmatch(r"\s*-{3,}\s*", below) is not None
        indented = line.startswith("    ") and not section
        if indented and not inside and result and not result[-1]:
            said = next((text.strip() for text in reversed(result) if text), "")
            if not said.endswith("::") and not said.startswith(".."):
                result += ["::", ""]
        if line:
            inside = indented
        result.append(line if inside else _escape_bars(line))
    lines[:] = result


def _escape_bars(line: str) -> str:
    parts = re.split(r"(``.*?``|`.*?`)", line)
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def _skip_generated(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out what nobody wrote: fields of named tuples, scikit-learn's metadata requests."""
    field = (getattr(obj, "__doc__", "") or "").startswith("Alias for field")
    return True if field or re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> dict:
    """Connect all of this to the build."""
    app.connect("config-inited", _add_buttons)
    app.connect("config-inited", _add_versions)
    setattr(TocTreeCollectorWithStyles, "assign_section_numbers", _number_as_files)  # noqa: B010
    app.connect("autodoc-process-docstring", _plain_text_docstring, priority=400)
    app.connect("autodoc-skip-member", _skip_generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
