"""Sphinx extension: explorers in the page, which need no kernel and no network.

The directive ``{explorer} NAME`` leaves a place for ``book/explorers/NAME.js``, with the numbers of
tools/explorer_data.py beside it in the page, so that it works from a folder as from a server. D3,
of the version that mpld3 ships, and the scripts are loaded by pages that hold an explorer, and by
no other.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path

import explorer_data
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

SCRIPTS = Path(__file__).resolve().parent.parent / "book" / "explorers"
FOLDER = "explorers"  # under _static
D3 = "d3.v5.min.js"

_PLACE = """
<div class="explorer" data-explorer="{name}">
<div class="explorer-controls" role="group" aria-label="Controls"></div>
<p class="explorer-said" role="status" aria-live="polite">This explorer needs JavaScript.</p>
<div class="explorer-charts"></div>
<script type="application/json" id="data-{name}">{data}</script>
</div>
"""


class Explorer(Directive):
    """``{explorer} NAME``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the HTML or the nodes that stand for the directive."""
        name = self.arguments[0]
        if name not in explorer_data.EXPLORERS:
            raise self.error(
                f"no explorer {name!r}: there are {', '.join(explorer_data.EXPLORERS)}"
            )
        env = self.state.document.settings.env
        env.metadata[env.docname].setdefault("explorers", []).append(name)
        data = (_static(env.app) / f"{name}.json").read_text("utf8")
        return [nodes.raw("", _PLACE.format(name=name, data=data), format="html")]


def _static(app: Sphinx) -> Path:
    return Path(app.outdir) / "_static" / FOLDER


def _prepare(app: Sphinx) -> None:
    folder = _static(app)
    explorer_data.write(folder)
    d3 = distribution("mpld3").locate_file(f"mpld3/js/{D3}")
    for script in (Path(str(d3)), *SCRIPTS.glob("*.js")):
        shutil.copy(script, folder)


def _load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    names = app.env.metadata.get(page, {}).get("explorers", [])
    if names:
        for script in (D3, "explorer.js", *(f"{name}.js" for name in dict.fromkeys(names))):
            app.add_js_file(f"{FOLDER}/{script}", loading_method="defer")


def setup(app: Sphinx) -> dict:
    """Connect to Sphinx."""
    app.add_directive("explorer", Explorer)
    app.connect("builder-inited", _prepare)
    app.connect("html-page-context", _load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
