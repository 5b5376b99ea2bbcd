# Finds tlnb and the stored results: in the checkout this notebook
# belongs to; in Colab in a clone.
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
        clone = ["git", "clone", "-q", "--depth", "1", REPOSITORY]
        subprocess.run([*clone, checkout], check=True)
    needed = f"{checkout}[plot,symbolic,sampling,sweeps]"
    pip = [sys.executable, "-m", "pip", "install", "-q", needed]
    subprocess.run(pip, check=True)
    os.chdir(checkout / "notebooks")
if importlib.util.find_spec("tlnb") is None:
    if not (checkout / "tlnb").is_dir():
        advice = "in a clone of the book, run `pip install -e .`"
        raise ImportError(f"tlnb is not installed: {advice}")
    sys.path.insert(0, str(checkout))
