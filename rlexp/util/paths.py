"""Where the project's own files are: rlexp is installed from its repository (pip install -e)."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONF = ROOT / "conf"
GALLERY = ROOT / "gallery"
POLICIES = GALLERY / "policies"
