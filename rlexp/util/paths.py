"""Where the project's own files are: in a clone beside the package, in a wheel inside of it.

What users publish goes to the clone's gallery; where rlexp is installed from a wheel, to `gallery` in the current
folder, which is then searched before the one that came with rlexp.
"""

from pathlib import Path

from rlexp.util.errors import UserError
from rlexp.util.files import read_object

PACKAGE = Path(__file__).parent.parent
INSTALLED = (PACKAGE / "conf").is_dir()  # a clone has none in the package
ROOT = PACKAGE.parent
if INSTALLED:
    ROOT = PACKAGE
CONF = ROOT / "conf"
GALLERY = ROOT / "gallery"
POLICIES = GALLERY / "policies"


def own_gallery() -> Path:
    """Where what is published goes; it need not be there yet."""
    if INSTALLED:
        return Path("gallery")
    return GALLERY


def galleries() -> list[Path]:
    """Where references are looked for, in this order."""
    if INSTALLED:
        return [own_gallery(), GALLERY]
    return [GALLERY]


def own_policies() -> Path:
    """Where policies that are published go; it need not be there yet."""
    if INSTALLED:
        return own_gallery() / "policies"
    return POLICIES


def policy(name: str) -> Path:
    """The file of a published or shipped policy; a ladder's are named <ladder>/policy_<step>. It need not be there."""
    own = own_policies() / f"{name}.safetensors"
    if own.is_file():
        return own
    return POLICIES / f"{name}.safetensors"


def policies() -> dict[str, Path]:
    """Policy files that can be named, by name. Of two of one name the user's own is meant."""
    folders = [POLICIES, own_policies()]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.safetensors"))}


def seed_folders(run: Path) -> list[Path]:
    """The folders of the seeds that a run's record has, by number; others beside them (a copy, a backup) are none of
    it. Without a record that can be read: of every seed_<number>."""
    folders = {int(digits): folder for folder in run.glob("seed_*") if (digits := folder.name[5:]).isdecimal()}
    try:
        recorded = set(read_object(run / "run.json")["seeds"])
    except (UserError, KeyError, TypeError):
        recorded = {str(number) for number in folders}
    return [folders[number] for number in sorted(folders) if str(number) in recorded]
