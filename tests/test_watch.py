"""`rlexp watch`: a run is followed by its files, while it goes on and when it has ended."""

from rlexp.cli import main
from rlexp.engines.serial import Serial
from rlexp.experiment import status
from rlexp.experiment.folder import Folder
from rlexp.experiment.job import SeedJob
from rlexp.experiment.resume import resume
from rlexp.experiment.work import Work
from tests.helpers import run_on, toy, train, work_in


def test_a_run_is_followed_to_its_end_and_its_failure_is_the_exit_code(tmp_path, capsys):
    place = tmp_path / "run"
    place.mkdir()
    config = toy("cmaes", "env=sphere", "train.budget=6", "train.eval_episodes=2", "seeds=[0,1]")
    work = Work(place, [(Folder(place, config.plain, "updates"), config)])
    work.begin()
    follower = SeedJob(place, 0).follow()
    assert list(follower.news()) == []
    events = train(config, place / "seed_0", 0, stop_after=2)
    assert events[0].data["stage"] == ["episodes of the untrained policy", 0, 2]
    assert [event.kind for event in events[1:3]] == ["progress", "evaluation"]
    assert events[1].data["stage"] == ["episodes of the evaluation", 0, 2]
    assert all("step" not in event.data for event in events[:2])  # no mark of how fast it trains
    assert " begins: " in (place / "train.log").read_text()
    (newest,) = follower.news()
    assert (newest.kind, newest.data["step"]) == ("evaluation", 2)
    assert newest.data["return_mean"] == events[-1].data["return_mean"]
    with open(place / "seed_0" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 3, "half')
    assert list(follower.news()) == []
    train(config, place / "seed_0", 0)
    *_, last, done = follower.news()
    assert (last.data["step"], done.kind, follower.ended) == (6, "done", True)

    status.update(place / "seed_1", status="failed", message="of its own")
    work.close(whole=True)
    assert main.main(["watch", str(place)]) == 1
    said = capsys.readouterr().out
    assert "seed 0 (1 of 2)            6/6 updates" in said
    assert "failed  of its own" in said
    status.update(place / "seed_1", status="done", final={"return_mean": 0.0}, message="")
    assert main.main(["watch", str(place)]) == 0
    assert main.main(["watch", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_seed_that_is_to_go_on_to_a_longer_budget_has_not_ended(tmp_path):
    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere", "train.budget=2", "train.save_every=2", "seeds=[0]"))
    run_on(Serial(Serial.Config()), work, work.jobs())
    longer = resume(work.path, ["train.budget=4"])
    longer.begin()
    (job,) = longer.jobs()
    follower = job.follow()
    assert [event.kind for event in follower.news()] == ["evaluation"]
    assert not follower.ended
    longer.close(whole=False)
    assert status.read(job.folder)["message"] == "interrupted at step 2; goes on from step 2"
