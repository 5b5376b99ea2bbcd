"""Property tests are judged by what they find, not by how long a loaded machine takes.

Continuous integration tries the same examples every time; at home each run tries new ones.
"""

import os

from hypothesis import settings

settings.register_profile("tlnb", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tlnb")
