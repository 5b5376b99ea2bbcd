"""The built site as a reader gets it: its pages, and a server that compresses as hosts do."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

#: Where the built site is, named by `make browser`; None if nobody asked for these tests.
SITE = Path(os.environ["TLNB_SITE"]).resolve() if os.environ.get("TLNB_SITE") else None

_COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".txt", ".ipynb"}


def pages() -> list[str]:
    """Every page of the site, the generated ones too; none without a site."""
    if SITE is None:
        return []
    found = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    return [name for name in found if not name.startswith(("_static/", "_sources/"))]


def chapters() -> list[str]:
    """The pages a reader goes through: no source listings, index or redirect."""
    generated = ("_modules/", "genindex", "py-modindex", "search", "index")
    return [name for name in pages() if not name.startswith(generated)]


class _Handler(SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        path = Path(self.translate_path(self.path))
        if not path.is_file() or path.suffix not in _COMPRESSED:
            return super().send_head()
        body = _compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: pytest reports."""


@lru_cache(maxsize=256)
def _compressed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes())


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free local port; the address, without a slash at the end."""

    def handler(*args: object) -> _Handler:
        return _Handler(*args, directory=str(folder))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
