"""Sweeps: combinations are the arms of a study, checked before anything starts, and resumed after any end."""

import json
import shutil
import sys
from collections import Counter

import pytest

from rlexp.cli import launch
from rlexp.cli import main as commands
from rlexp.cli.progress import Board
from rlexp.engines.serial import Serial
from rlexp.experiment import overrides, status
from rlexp.experiment.job import SeedJob
from rlexp.report import sweeps
from rlexp.report.history import folders
from rlexp.report.page.coordinates import apart, places
from rlexp.util.errors import UserError
from rlexp.util.files import read_json, read_yaml
from tests.helpers import ELSEWHERE, QUIET, metrics

TOY = ["algo=cmaes", "env=sphere", "train.budget=3", "train.eval_episodes=2", "algo.population_size=20", *QUIET]
SWEEP = ["-m", *TOY, "algo.sigma0=1,10", "algo.eps=0.1,0.25", "seeds=0,1"]
undrawn = pytest.mark.usefixtures("no_pictures")


class Killed(BaseException):
    """What nobody catches, as kill -9."""


def main(*words):
    """main.py in this process. Returns the exit code."""
    before = sys.argv
    sys.argv = ["main.py", *map(str, words)]
    try:
        return launch.main()
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    place = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rlexp.report.curves.curves", lambda folder: None)  # eight pictures
        assert main(*SWEEP, f"runs={place}") == 0
    (folder,) = place.glob("*/*_sweep")
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Without pictures, which take most of the time."""
    monkeypatch.setattr("rlexp.report.curves.curves", lambda folder: None)
    monkeypatch.setattr("rlexp.report.compare.study", lambda folder: None)


def rows(folder):
    """Each seed's metrics, by combination and seed."""
    return {
        (name, seed.name): metrics(seed) for name, run in folders(folder).items() for seed in sorted(run.glob("seed_*"))
    }


def test_a_sweep_is_a_study_with_a_table_that_marks_the_best(sweep):
    assert sorted(folder.name for folder in sweep.iterdir() if folder.is_dir()) == [
        *("1_1_0.1", "2_1_0.25", "3_10_0.1", "4_10_0.25")
    ]
    table = (sweep / "summary.md").read_text()
    assert (
        "| algo.sigma0 | algo.eps | seeds | return mean | 95 % t-interval | min | max | not finished | verdict |"
        in table
    )
    assert len([line for line in table.splitlines() if line.startswith(("| 1 |", "| 10 |", "| **"))]) == 4
    means = {arm.name: read_json(arm / "run.json")["final"]["return_mean"]["mean"] for arm in folders(sweep).values()}
    best = max(means, key=means.get)
    sigma, eps = best.split("_")[1:]
    assert f"| **{sigma}** | **{eps}** | **2** |" in table
    assert f"Best: algo.sigma0={sigma} algo.eps={eps}, the highest mean of 4." in table
    assert (sweep / "study.png").stat().st_size > 10_000


@undrawn
@pytest.mark.parametrize("after", [1, 7])
def test_a_killed_sweep_goes_on_and_has_each_combination_once(sweep, tmp_path, monkeypatch, after):
    run = Serial.run

    def dying(self, next_job, handle):
        heard = Counter()

        def counting(job, event):
            heard["events"] += 1
            if heard["events"] > after:
                raise Killed
            handle(job, event)

        run(self, next_job, counting)

    with monkeypatch.context() as patched:
        patched.setattr(Serial, "run", dying)
        with pytest.raises(Killed):
            main(*SWEEP, f"runs={tmp_path}")
    (folder,) = tmp_path.glob("*/*_sweep")
    assert not (folder / "summary.md").exists()
    assert main(f"resume={folder}") == 0
    assert rows(folder) == rows(sweep)
    assert _table(folder) == _table(sweep)
    assert len(list(tmp_path.glob("*/*"))) == 1


def _table(folder):
    return (folder / "summary.md").read_text().split("\n\n", 2)[2]


@undrawn
@undrawn
@pytest.mark.slow
@pytest.mark.parametrize("engine", ELSEWHERE)
def test_a_sweep_on_an_engine_of_several_machines(sweep, tmp_path, engine):
    pytest.importorskip(engine, reason="pip install 'rlexp[ray,slurm]'")
    assert main(*SWEEP, f"runs={tmp_path}", *ELSEWHERE[engine]) == 0
    (folder,) = tmp_path.glob("*/*_sweep")
    assert rows(folder) == rows(sweep)


def test_what_failed_is_run_again_and_what_is_done_is_left_alone(sweep, tmp_path, capsys):
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    seed = folder / "3_10_0.1" / "seed_1"
    shutil.rmtree(seed)
    status.write(seed, {**status.waiting(), "status": "failed", "message": "out of luck"})
    others = [path for path in folder.glob("*/seed_*/status.json") if path.parts[-3] != "3_10_0.1"]
    before = {path: path.stat().st_mtime_ns for path in others}
    assert main(f"resume={folder}") == 0
    assert rows(folder) == rows(sweep)
    assert {path: path.stat().st_mtime_ns for path in others} == before
    assert main(f"resume={folder}") == 0
    assert "every seed has already finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algo.sigma0=1,-1"], "algo.sigma0=-1: algo.sigma0: "),
        (["env=sphere,shpere"], "error: env=shpere: no such env; did you mean 'sphere'"),
        (["algo=cmaes,vpg"], "algo=vpg: algo.population_size: unknown option"),
        (["algo.sigma0=interval(1,2)"], "has no end of values"),
        (["env=glob(*nothing)"], "fits none of"),
        (["algo.lr=glob(1*)"], "is for the names of a group, and algo.lr is an option"),
        (["engine=serial,processes"], "engine cannot be swept"),
        (["resume=a,b"], "write it without -m"),
        (["+study=lineworld_lesson,swimmer_dpo"], "has arms of its own"),
        (["hydra/sweeper=optuna"], "Hydra's sweepers and launchers have no part in it"),
        (["hydra.sweep.dir=x"], "Hydra's sweepers and launchers have no part in it"),
        (["train.budget=range(1,1000000000)"], "more than 1,000 combinations"),
        (["--cfg", "job"], "--cfg: goes without -m"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(tmp_path, capsys, words, said):
    assert main("-m", *TOY, f"runs={tmp_path}", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_glob_range_choice_and_seeds():
    swept = overrides.sweep(["env=glob(*world)", "algo.lr=choice(1,2)", "a=range(0,3)", "seeds=range(3)", "b=1"])
    assert swept.keys == ["env", "algo.lr", "a"]
    assert len(swept.varied) == 12
    assert swept.varied[0] == ["env=gridworld", "algo.lr=1", "a=0"]
    assert swept.common == ["seeds=[0,1,2]", "b=1"]
    assert overrides.sweep(["seeds=[0,1],[1,2]"]).common == ["seeds=[0,1,2]"]
    assert overrides.sweep(["a=1"]).varied == [[]]
    with pytest.raises(UserError, match="1,000"):
        overrides.sweep(["a=range(0,100)", "b=range(0,100)"])


@undrawn
def test_the_same_combination_written_twice_is_trained_once(tmp_path, capsys):
    assert main("-m", *TOY, f"runs={tmp_path}", "algo.sigma0=2,2.0,3", "seeds=[0]") == 0
    assert "algo.sigma0=2.0: is algo.sigma0=2 once more, trained once" in capsys.readouterr().out
    (folder,) = tmp_path.glob("*/*_sweep")
    assert list(read_yaml(folder / "study.yaml")["arms"]) == ["1_2", "3_3"]


def test_a_table_of_many_jobs_fits_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("LINES", "14")
    jobs = [SeedJob(tmp_path / f"{arm}", seed) for arm in range(20) for seed in range(2)]
    board = Board(jobs, {job.run_folder: 10 for job in jobs}, "updates", arms=True)
    board.rows["15", 0].status = "running"
    board.rows["0", 0].status = "done"
    table = board._table()
    assert table.row_count == 11  # and that of all
    assert ("15", 0) in [key for key, _ in board._shown(10)]


@undrawn
def test_refresh_and_watch_take_a_sweep(sweep, tmp_path, capsys):
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    (folder / "summary.md").unlink()
    assert commands.main(["refresh", str(folder)]) == 0
    assert _table(folder) == _table(sweep)
    assert commands.main(["watch", str(folder)]) == 0
    assert "4_10_0.25 seed 1" in capsys.readouterr().out


def listed(capsys, *words):
    code = commands.main(["list", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_a_sweep_in_one_line_and_its_combinations_where_they_are_asked_for(sweep, capsys):
    root = sweep.parent.parent
    _, out, _ = listed(capsys, root)
    assert out.count("\n") == 2
    assert "8/8" in out
    assert "sweep of 4; best: algo.sigma0=" in out
    _, out, _ = listed(capsys, sweep, "--sort", "return", "--json")
    runs = json.loads(out)
    assert [run["return_mean"] for run in runs] == sorted((run["return_mean"] for run in runs), reverse=True)
    assert len(runs) == 4
    _, out, _ = listed(capsys, sweep, "--limit", 1, "--sort", "name")
    assert "1_1_0.1" in out
    assert "3 more; --all shows them" in out
    assert listed(capsys, root, "--algo", "cmaes", "--env", "sphere")[1].count("\n") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--algo", "cmeas"], "did you mean 'cmaes'?"),
        (["--env", "spere"], "did you mean 'sphere'?"),
        (["--sort", "socre"], "did you mean 'score'?"),
        (["--limit", "0"], "--limit: must be ≥ 1, not 0"),
        (["--limit", "3", "--all"], "not allowed with"),
    ],
)
def test_a_list_that_cannot_be_made_is_one_line(sweep, capsys, words, said):
    code, out, err = listed(capsys, sweep.parent.parent, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_the_report_of_a_sweep_has_parallel_coordinates(sweep, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert commands.main(["report", str(sweep), "-o", str(page)]) == 0
    text = page.read_text()
    assert "A line is a combination of options" in text
    assert text.count("★</td>") == 1
    assert "algo.sigma0=10 algo.eps=0.25" in text
    assert text.index("not finished</th>") < text.index("algo.sigma0</th>")  # results first: options may be many


def test_values_of_an_option_stand_in_their_order():
    assert places(["10", "1", "100"]) == {"10": 0.5, "1": 0.0, "100": 1.0}
    assert places(["1", "2", "4"]) == {"1": 0.0, "2": 1 / 3, "4": 1.0}
    assert places(["ppo", "vpg", "ppo"]) == {"ppo": 0.0, "vpg": 1.0}
    assert places(["ppo"]) == {"ppo": 0.5}


def test_numbers_that_somebody_drew_are_short_and_texts_of_an_axis_lie_apart():
    study = {"metric": "eval/return_mean", "sweep": ["algo.lr"], "arms": {"a": ["algo.lr=0.0005808226670342516"]}}
    (arm,) = sweeps.arms(study, [{"seeds": {}, "final": {}}])
    assert arm.options == {"algo.lr": "0.0005808"}
    assert list(apart({"high": 1.0, "near": 0.01, "low": 0.0, "middle": 0.5})) == ["low", "middle", "high"]
