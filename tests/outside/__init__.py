"""Small packages as somebody else would write them, and how a test installs one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def install(name: str, place: Path) -> dict[str, str]:
    """Install the package in `name`/ with pip into `place`/site. Returns the environment in which Python finds it."""
    source = shutil.copytree(HERE / name, place / "source")  # where pip leaves its build
    flags = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(place / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(source)], check=True, capture_output=True)
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(place / "site"), before]))}
