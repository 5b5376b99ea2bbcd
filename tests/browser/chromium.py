"""Which Chromium to drive: the one named by CHROMIUM, the system's, or Playwright's own."""

from __future__ import annotations

import os
import shutil
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable(playwright: Any) -> str | None:
    """Its path; None if there is none."""
    named = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    path = named or playwright.chromium.executable_path
    return path if os.path.exists(path) else None
