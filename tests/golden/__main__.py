import json
import sys
import tempfile
from pathlib import Path

from tests.golden import first_updates
from tests.helpers import ALGOS

for algo in sys.argv[1:] or ALGOS:
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(first_updates(algo, Path(folder)), indent=1)
    (Path(__file__).parent / f"{algo}.json").write_text(text + "\n")
