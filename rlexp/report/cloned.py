"""What `rlexp clone RUN` leaves in RUN/clone: behaviour cloning of the episodes that each seed of RUN compared."""

from pathlib import Path

from rlexp.report.records import read_record

FOLDER = "clone"  # in the run's folder


def latest(run: Path) -> Path | None:
    """The newest study of clones; its arms are named as the run's seeds' folders. None where there is none."""
    found = sorted((run / FOLDER).glob("*/*/study.yaml"))
    return found[-1].parent if found else None


def returns(run: Path) -> dict[str, float]:
    """The return at the end of each seed's clone that is done, by the seed; empty where nothing was cloned."""
    study = latest(run)
    if study is None:
        return {}
    found = {}
    for arm in sorted(study.glob("seed_*/run.json")):
        for seed, facts in read_record(arm.parent)["seeds"].items():
            if facts["status"] == "done":
                found[seed] = facts["final"]["return_mean"]
    return found
