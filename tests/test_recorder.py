"""What is made of a run as its seeds go on: often enough, and never most of the time."""

from rlexp.experiment import recorder
from rlexp.experiment.events import Event
from rlexp.experiment.recorder import Recorder
from tests.helpers import toy, work_in


def test_tables_and_pictures_of_many_seeds_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock = 0.0
    made = []
    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere", "train.budget=4", "seeds=[0,1,2,3]"))
    (job, *_) = work.jobs()
    (folder,) = work.folders().values()

    def refresh(draw):
        nonlocal clock
        made.append((round(clock), draw))
        clock += 10.0 if draw else 1.0

    monkeypatch.setattr(folder, "refresh", refresh)
    monkeypatch.setattr(recorder.time, "monotonic", lambda: clock)
    record = Recorder({job.run_folder: folder})
    found = {"step": 1, "return_mean": 0.0}
    for time, seed, kind in [
        (0, 0, "evaluation"),
        (4, 0, "evaluation"),
        (26, 0, "done"),
        (40, 1, "done"),
        (50, 2, "evaluation"),
        (90, 2, "done"),
        (95, 3, "done"),
    ]:
        clock = float(time)
        record(job, Event(seed, kind, "", found))
    assert made == [(0, False), (26, True), (40, False), (90, False), (95, True)]
