# Finds tlnb: installed, or in the checkout this notebook belongs to; in Colab it is installed.
import importlib.util
import pathlib
import subprocess
import sys

REPOSITORY = ""  # stamped by `make repository` from _config.yml
if importlib.util.find_spec("tlnb") is None:
    checkout = pathlib.Path.cwd().resolve().parent
    if (checkout / "tlnb").is_dir():
        sys.path.insert(0, str(checkout))
    elif REPOSITORY:
        pip_install = [sys.executable, "-m", "pip", "install", "-q", f"git+{REPOSITORY}"]
        subprocess.run(pip_install, check=True)
    else:
        raise ImportError("tlnb is not installed: in a clone of the book, run `pip install -e .`")
