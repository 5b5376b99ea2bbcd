"""The built book as one PDF, _build/book.pdf, printed page by page in Chromium: ``make pdf``.

Pages come in the order of _toc.yml, each with an entry in the outline. Links between pages, which
would lead to the server that printed them, are taken out; links elsewhere stay.
"""

from __future__ import annotations

import functools
import io
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter

from tests.browser.chromium import executable

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 20_000_000
_READY = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  document.documentElement.dataset.theme = "light";
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def pages() -> list[str]:
    """The book's pages in order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def print_book(site: Path, target: Path) -> int:
    """Print a built site to ``target``; the number of sheets."""
    handler = functools.partial(_Quiet, directory=str(site))
    writer = PdfWriter()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        path = executable(playwright)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        for name in pages():
            page.goto(f"{address}/{name}.html")
            page.evaluate(_READY)
            title = page.locator(".bd-article h1").first.inner_text().rstrip("#").strip()
            sheets = page.pdf(
                format="A4",
                margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
                print_background=True,
            )
            start = len(writer.pages)
            writer.append(PdfReader(io.BytesIO(sheets)))
            writer.add_outline_item(title=title, page_number=start)
        browser.close()
        server.shutdown()
    for sheet in writer.pages:
        notes: Any = sheet.get("/Annots") or []
        for note in list(notes):
            action = note.get_object().get("/A", {})
            if str(action.get("/URI", "")).startswith(address):
                notes.remove(note)
    writer.compress_identical_objects()
    writer.write(target)
    return len(writer.pages)


def main() -> None:
    """Print _build/html."""
    site, target = ROOT / "_build" / "html", ROOT / "_build" / "book.pdf"
    sheets, size = print_book(site, target), target.stat().st_size
    if size > LARGEST:
        sys.exit(f"{target} is {size / 1e6:.1f} MB, allowed are {LARGEST / 1e6:.0f}")
    sys.stdout.write(f"The book: _build/book.pdf, {sheets} pages, {size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
