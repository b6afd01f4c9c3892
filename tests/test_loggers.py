"""Loggers: each row reaches a tracker once, whatever happens between; none of them ends training."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from rlexp.cli import main
from rlexp.experiment import former_names
from rlexp.loggers.base import LoggedSeed, Logger, film_name
from rlexp.loggers.jsonl import read
from rlexp.loggers.make import Chosen, Loggers, chosen
from rlexp.util.errors import UserError
from rlexp.util.params import Params, param
from tests import outside, trackers
from tests.helpers import ROOT, built, command, metrics, train

SEARCH = [
    *("algo=cmaes", "env=sphere", "train.budget=30", "train.save_every=10", "seeds=[0]"),
    *("train.eval_every=1", "train.eval_episodes=1", "video=none"),
]


def only_run(place: Path) -> Path:
    (run,) = place.glob("runs/*/*_cmaes_sphere")
    return run


class Remembers(Logger):
    """A logger whose tracker is a list, which fails when told to."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        fails_at: int = param("step of the row that it raises on", default=-1)

    tracker: list[int] = []
    films: list[tuple[str, int]] = []
    closed: list[str] = []

    def __init__(self, config, seed):
        self.config = config
        self.last = max(self.tracker, default=-1)

    def last_step(self):
        return self.last

    def log(self, row):
        if row["step"] == self.config.fails_at:
            raise ConnectionError("no network\nmore of it")
        self.tracker.append(row["step"])

    def log_film(self, path, step):
        self.films.append((film_name(path), step))

    def close(self, status):
        self.closed.append(status)


@pytest.fixture(autouse=True)
def _forget():
    Remembers.tracker.clear()
    Remembers.films.clear()
    Remembers.closed.clear()


def remembers(place: Path, steps: range, history=(), **options: int) -> Loggers:
    choice = Chosen("mine", Remembers, Remembers.Config(**options))
    loggers = Loggers([choice], LoggedSeed(place, 0, {}), history)
    for step in steps:
        loggers.log({"step": step})
    return loggers


def test_replayed_rows_are_skipped_and_lost_ones_given_again(tmp_path):
    remembers(tmp_path, range(5))
    remembers(tmp_path, range(3, 8))
    assert Remembers.tracker == list(range(8))
    history = [{"step": step} for step in range(10)]
    remembers(tmp_path, range(10, 12), history)
    assert Remembers.tracker == list(range(12))


def test_rows_of_one_step_are_all_logged(tmp_path):
    loggers = remembers(tmp_path, range(0))
    for _ in range(3):
        loggers.log({"step": 0})
    assert Remembers.tracker == [0, 0, 0]


def test_a_logger_that_fails_is_a_warning_once(tmp_path):
    loggers = remembers(tmp_path, range(6), fails_at=2)
    assert loggers.take_warnings() == ["logger mine is given up: ConnectionError: no network more of it"]
    assert loggers.take_warnings() == []
    assert Remembers.tracker == [0, 1]
    loggers.close("done")
    assert Remembers.closed == []


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no")


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), BaseException("panic"), Unspeakable(), None])
def test_whatever_a_logger_raises_is_a_warning(tmp_path, monkeypatch, error):
    def last_step(self):
        if error is not None:
            raise error

    monkeypatch.setattr(Remembers, "last_step", last_step)
    (warning,) = remembers(tmp_path, range(2)).take_warnings()
    name = "TypeError" if error is None else type(error).__name__
    assert warning.startswith(f"logger mine is given up: {name}")


def test_training_goes_on_without_a_logger_that_fails(tmp_path):
    target = "logger.mine._target_=tests.test_loggers.Remembers"
    words = ["logger=none", *SEARCH]
    run = built(*words, f"+{target}", "+logger.mine.fails_at=3")
    events = train(run, tmp_path / "fails")
    assert [event.text for event in events if event.kind == "warning"] == [
        "logger mine is given up: ConnectionError: no network more of it"
    ]
    assert events[-1].kind == "done"
    train(built(*words), tmp_path / "quiet")
    assert metrics(tmp_path / "fails") == metrics(tmp_path / "quiet")


def test_how_training_ended_is_told(tmp_path):
    words = ["logger=none", *SEARCH, "+logger.mine._target_=tests.test_loggers.Remembers"]
    train(built(*words), tmp_path / "a")
    train(built(*words), tmp_path / "b", stop_after=2)
    (tmp_path / "c" / "checkpoints" / "best.safetensors").mkdir(parents=True)  # no file can be put there
    with pytest.raises(OSError, match=r"best\.safetensors"):
        train(built(*words), tmp_path / "c")
    assert Remembers.closed == ["done", "interrupted", "failed"]


def test_films_reach_loggers_while_they_are_open(tmp_path):
    words = ["env=lineworld", "train.budget=2048", "train.eval_episodes=3", "logger=none"]
    train(built(*words, "+logger.mine._target_=tests.test_loggers.Remembers"), tmp_path)
    assert Remembers.films == [("best", 2048), ("median", 2048), ("worst", 2048)]


def test_names_of_a_seed(tmp_path):
    seed = LoggedSeed(tmp_path / "2026-01-31" / "12-00-00_ppo_hopper" / "seed_3", 3, {})
    assert seed.name == "2026-01-31_12-00-00_ppo_hopper_seed3"
    assert seed.group == "2026-01-31_12-00-00_ppo_hopper"
    assert seed.runs == tmp_path
    study = tmp_path / "2026-01-31" / "12-00-00_study_x"
    study.mkdir(parents=True)
    (study / "study.yaml").write_text("")
    arm = LoggedSeed(study / "fast" / "seed_0", 0, {})
    assert arm.group == "2026-01-31_12-00-00_study_x_fast"
    assert arm.runs == tmp_path
    moved = LoggedSeed(tmp_path / "kept" / "run" / "seed_0", 0, {})
    moved.folder.mkdir(parents=True)
    assert (moved.group, moved.runs) == ("run", tmp_path / "kept")
    assert moved.identity() == moved.identity()
    assert [film_name(Path(name)) for name in ("best_-12.3.mp4", "worst_5.mp4", "mine.mp4")] == [
        "best",
        "worst",
        "mine",
    ]


def rlexp_command(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """`rlexp *words` from `cwd`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rlexp", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": str(ROOT), **os.environ, **env},
    )


def film(path: Path) -> None:
    """A film of a second."""
    import imageio_ffmpeg

    path.parent.mkdir()
    writer = imageio_ffmpeg.write_frames(str(path), (64, 64), fps=10, macro_block_size=1)
    writer.send(None)
    for shade in range(10):
        writer.send(np.full((64, 64, 3), 20 * shade, np.uint8))
    writer.close()


def start_and_kill(words: list[str], cwd: Path) -> None:
    """Start main.py, and kill it when it is beyond its first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *words],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not any(len(read(file)) > 15 for file in cwd.glob("runs/*/*/seed_0/metrics.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("name", trackers.EACH)
def test_a_run_that_was_killed_leaves_no_step_twice_and_none_out(name, tmp_path, monkeypatch):
    trackers.stay_here(tmp_path, monkeypatch)
    start_and_kill([*SEARCH, f"logger={name}"], tmp_path)
    run = only_run(tmp_path)
    seed = run / "seed_0"
    done = command("main.py", f"resume={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout + done.stderr
    steps = [row["step"] for row in read(seed / "metrics.jsonl")]
    found = trackers.held(name, seed)
    assert found.steps == steps == list(range(31))
    assert (found.films, found.pictures) == ([], [])
    if name != "tensorboard":
        assert found.config
    assert found.status in {"tensorboard": "", "wandb": "0", "mlflow": "FINISHED", "trackio": ""}[name]

    film(seed / "videos" / "best_1.0.mp4")
    for _ in range(2):
        tracked = rlexp_command("track", run, "--to", name, "--json", cwd=tmp_path)
        assert tracked.returncode == 0, tracked.stderr
        (facts,) = json.loads(tracked.stdout)["seeds"]
        assert (facts["rows"], facts["new_rows"], facts["films"], facts["pictures"]) == (31, 0, 1, 2)
        found = trackers.held(name, seed)
        assert found.steps == steps
        assert (found.films, found.pictures) == (["best"], ["curves", "path"])


@pytest.mark.parametrize("name", trackers.EACH)
def test_a_run_without_a_logger_is_tracked_afterwards_and_numbers_are_the_same(name, tmp_path, monkeypatch):
    trackers.stay_here(tmp_path, monkeypatch)
    for place, logger in (("a", "none"), ("b", name)):
        (tmp_path / place).mkdir()
        done = command("main.py", *SEARCH, "train.budget=5", f"logger={logger}", cwd=tmp_path / place)
        assert done.returncode == 0, done.stderr
    first, second = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    assert metrics(first / "seed_0") == metrics(second / "seed_0")
    tracked = rlexp_command("track", first, "--to", name, cwd=tmp_path)
    assert (tracked.returncode, tracked.stderr) == (0, "")
    assert tracked.stdout == f"{first}/seed_0: 6 new rows of 6, 0 films, 2 pictures\n"
    assert trackers.held(name, first / "seed_0").steps == trackers.held(name, second / "seed_0").steps


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere", "--to", "tensorboard"], "nowhere: no run or study folder"),
        (["{run}", "--to", "tensorbord"], "logger=tensorbord: no such logger; did you mean 'tensorboard'?"),
        (["{run}", "--to", "none"], "--to none: is 0 loggers; name one"),
        (["{run}", "--to", "wandb,tensorboard"], "--to wandb,tensorboard: takes one logger; track once for each"),
        (["{run}", "--to", "tensorboard", "--option", "x"], "--option x: takes KEY=VALUE, as in conf/logger/"),
        (["{run}", "--to", "mine", "--config-dir", "nowhere"], "--config-dir: there is no folder 'nowhere'"),
        (["{run}", "--to", "tensorboard", "--option", "flush=3"], "did you mean 'logger.tensorboard.flush_every'?"),
        (["{run}"], "the following arguments are required: --to"),
    ],
)
def test_mistakes_in_track_cost_one_line(words, line, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    assert main.main(["track", *[word.format(run=run) for word in words]]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert line in err


def test_a_tracker_that_cannot_be_written_is_a_mistake_in_track(tmp_path, capsys):
    config = built("logger=none", *SEARCH)
    train(config, tmp_path / "run" / "seed_0")
    (tmp_path / "run" / "seed_0" / "tensorboard").write_text("")  # no folder
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(config.plain))
    record = {"clock": "updates", "seeds": {"0": {"status": "done", "step": 30}}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert main.main(["track", str(tmp_path / "run"), "--to", "tensorboard"]) == 2
    assert "seed_0: logger tensorboard is given up: FileExistsError" in capsys.readouterr().err


def test_the_former_option_still_works(tmp_path):
    done = command("main.py", *SEARCH, "train.budget=2", "video=none", "train.tensorboard=false", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "train.tensorboard=false is now written logger=none\n"
    run = only_run(tmp_path)
    assert not (run / "seed_0" / "tensorboard").exists()
    assert "logger: {}" in (run / "config.yaml").read_text()
    done = command("main.py", f"resume={run}", "train.budget=4", "train.tensorboard=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert trackers.held("tensorboard", run / "seed_0").steps == [0, 1, 2, 3, 4]


def test_configs_from_before_the_group(tmp_path):
    stored = built("logger=tensorboard").plain
    del stored["logger"]
    for tensorboard, names in ((True, ["tensorboard"]), (False, [])):
        old = {**stored, "train": {**stored["train"], "tensorboard": tensorboard}}
        assert list(former_names.with_loggers(old)["logger"]) == names
    assert former_names.with_loggers(old)["train"] == stored["train"]


def test_what_the_former_option_is_today_is_what_the_yaml_says():
    assert built("logger=tensorboard").plain["logger"] == former_names.TENSORBOARD_TODAY
    with pytest.raises(UserError, match="not both"):
        former_names.translated(["train.tensorboard=true", "logger=none"])


def test_a_resumed_run_may_log_elsewhere_and_its_whole_history_gets_there(tmp_path):
    words = [*SEARCH, "logger=none"]
    assert command("main.py", *words, cwd=tmp_path).returncode == 0
    run = only_run(tmp_path)
    changes = ["train.budget=40", "logger=[tensorboard]", "logger.tensorboard.flush_every=7"]
    done = command("main.py", f"resume={run}", *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert trackers.held("tensorboard", run / "seed_0").steps == list(range(41))
    assert "flush_every: 7" in (run / "config.yaml").read_text()


def test_a_logger_of_another_package_is_one_file_and_one_yaml(tmp_path):
    installed = outside.install("csvlogger", tmp_path)
    words = [*SEARCH, "logger=[csv,tensorboard]", "logger.csv.delimiter=|"]
    done = command("main.py", *words, cwd=tmp_path, **installed)
    assert done.returncode == 0, done.stderr
    seed = only_run(tmp_path) / "seed_0"
    written = [line.split("|") for line in (seed / "rows.csv").read_text().splitlines()]
    expected = [[str(row["step"]), str(row["eval/return_mean"])] for row in read(seed / "metrics.jsonl")]
    assert [[step, value] for step, name, value in written if name == "eval/return_mean"] == expected
    assert (seed / "tensorboard").is_dir()

    done = rlexp_command("track", seed.parent, "--to", "csv", "--option", "file=x.csv", cwd=tmp_path, **installed)
    assert done.returncode == 0, done.stderr
    assert "30;picture;curves.png" in (seed / "x.csv").read_text().splitlines()

    done = command("main.py", "logger=csv", "logger.csv.delimitr=|", cwd=tmp_path, **installed)
    assert (done.returncode, "did you mean 'logger.csv.delimiter'" in done.stderr) == (2, True), done.stderr
    without = command("main.py", "logger=csv", cwd=tmp_path)
    assert (without.returncode, without.stderr.split(" (")[0]) == (2, "error: logger=csv: no such logger")


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    class Missing(Remembers):
        packages = ("no_such_package",)
        install = "rlexp[mine]"

    monkeypatch.setattr(sys.modules[__name__], "Missing", Missing, raising=False)
    with pytest.raises(
        UserError, match=r"logger.x: the package no_such_package is not installed; pip install 'rlexp\[mine\]'"
    ):
        chosen({"x": {"_target_": f"{__name__}.Missing", "fails_at": 0}})


def documented() -> list[list[str]]:
    """The commands of the README's section on loggers, as words."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Loggers")[1]
    block = section.split("```")[1]
    return [shlex.split(line, comments=True) for line in block.strip().splitlines()]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_commands_in_the_readme(words, tmp_path, monkeypatch):
    trackers.stay_here(tmp_path, monkeypatch)
    missing = [name for name in trackers.PACKAGES if name in words[-1] and name not in trackers.INSTALLED]
    missing += [name for name in trackers.PACKAGES if f"logger={name}" in words and name not in trackers.INSTALLED]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    short = [*SEARCH, "train.budget=2"]
    if words[0] == "rlexp":
        assert command("main.py", *short, "logger=none", cwd=tmp_path).returncode == 0
        run = only_run(tmp_path)
        done = rlexp_command(*[run if word == "runs/DAY/RUN" else word for word in words[1:]], cwd=tmp_path)
    else:
        assert words[:2] == ["python", "main.py"]
        done = command("main.py", *words[2:], *short, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout + done.stderr
