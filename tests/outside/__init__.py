"""Small packages as somebody else would write them, and how a test installs one."""

import os
import shutil
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def install(name: str, site: Path) -> dict[str, str]:
    """Put the package in `name`/ into the folder `site` as pip would: its files, and metadata with its entry points.

    Returns the environment in which Python finds it.
    """
    source = HERE / name
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    for package in source.glob("*/__init__.py"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package.parent, site / package.parent.name, ignore=ignored, dirs_exist_ok=True)
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), before]))}
