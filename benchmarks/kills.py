"""Kill `rlexp data make` and `rlexp publish` at random moments, and look whether anything half is left.

    python benchmarks/kills.py [--kills 50]

After each kill -9 there is a whole data set or none, a whole entry or none; at the end both are made, the
data with the digest of those that nobody disturbed.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rlexp.datasets import store
from rlexp.report.references import Entry
from rlexp.util import paths

ROOT = Path(__file__).parent.parent
PUBLISH = "import sys; from rlexp.util import paths; from pathlib import Path; paths.GALLERY = Path(sys.argv.pop(1))\n"
PUBLISH += "from rlexp.cli.main import main; sys.exit(main())"


def killed(words: list[str], within: float) -> bool:
    """Start a command, kill it after a random time. Returns whether it was still running."""
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(random.uniform(0, within))
    running = process.poll() is None
    process.kill()
    process.wait()
    return running


def seconds(words: list[str]) -> float:
    """How long a command takes that nobody disturbs."""
    started = time.monotonic()
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - started


def data(place: Path, kills: int) -> str:
    words = [sys.executable, "-m", "rlexp", "data", "make", "lineworld/expert", "--processes", "1", "--replace"]
    os.environ["MINARI_DATASETS_PATH"] = str(place)
    took = min(seconds(words), seconds(words))
    name = store.own_id("lineworld", "expert")
    whole = store.read(name).digest
    hit = 0
    there = 0
    for _ in range(kills):
        hit += killed(words, took)
        if store.exists(name):
            there += 1
            assert store.read(name).digest == whole, "a data set that is half"
    seconds(words)
    assert store.read(name).digest == whole
    return f"rlexp data make: {hit} kills while it ran, {there} of {kills} times a data set was there, always whole"


def publish(place: Path, kills: int) -> str:
    run = [sys.executable, "main.py", "algo=cmaes", "env=sphere", "seeds=[0]", "train.budget=5"]
    seconds([*run, "video=none", "logger=none", f"runs={place / 'runs'}"])
    (folder,) = (place / "runs").glob("*/*")
    gallery = place / "gallery"
    gallery.mkdir()
    words = [sys.executable, "-c", PUBLISH, str(gallery), "publish", str(folder), "--replace"]
    took = min(seconds(words), seconds(words))
    whole = Entry.read(gallery / "cmaes_sphere.csv").rows
    hit = 0
    there = 0
    for _ in range(kills):
        hit += killed(words, took)
        for file in gallery.glob("*.csv"):
            there += 1
            assert Entry.read(file).rows == whole, "an entry that is half"
    seconds(words)
    left = sorted(path.name for path in gallery.iterdir())
    assert left == ["cmaes_sphere.csv", "cmaes_sphere.json", "cmaes_sphere.png"], left
    return f"rlexp publish: {hit} kills while it ran, {there} of {kills} times an entry was there, always whole"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", choices=("data", "publish"))
    args = parser.parse_args()
    assert paths.ROOT == ROOT, "run it with the checkout that it lies in"
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "data").mkdir()
        if args.only != "publish":
            print(data(Path(place) / "data", args.kills), flush=True)
        if args.only != "data":
            print(publish(Path(place), args.kills), flush=True)


if __name__ == "__main__":
    main()
