# Finds tlnb and the stored results: in the checkout this notebook belongs to; in Colab in a clone.
import importlib.util
import os
import pathlib
import subprocess
import sys

REPOSITORY = ""  # stamped by `make repository` from _config.yml
checkout = pathlib.Path.cwd().resolve().parent
if REPOSITORY and not (checkout / "tlnb").is_dir():
    checkout = pathlib.Path("tlnb-book").resolve()
    if not checkout.is_dir():
        subprocess.run(["git", "clone", "-q", "--depth", "1", REPOSITORY, checkout], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", checkout], check=True)
    os.chdir(checkout / "notebooks")
if importlib.util.find_spec("tlnb") is None:
    if not (checkout / "tlnb").is_dir():
        raise ImportError("tlnb is not installed: in a clone of the book, run `pip install -e .`")
    sys.path.insert(0, str(checkout))
