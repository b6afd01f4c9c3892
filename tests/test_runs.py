"""Whole runs as a user starts them: folders, parallel seeds, interruptions, failures."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlexp.cli.launch import _terminate, execute, main
from rlexp.engines.serial import Serial
from rlexp.experiment import plan, status
from rlexp.experiment.compose import compose
from rlexp.experiment.folder import Folder, create
from rlexp.experiment.job import SeedJob
from rlexp.experiment.resume import check_checkpoints, resume
from rlexp.experiment.train import Every, run_seed
from rlexp.experiment.work import Work
from rlexp.loggers.jsonl import read
from rlexp.report import history
from rlexp.report.publish import publish
from rlexp.report.records import read_record
from rlexp.util import checkpoint, processor
from rlexp.util.errors import UserError
from tests.helpers import ALGOS, QUIET, ROOT, built, command, metrics, toy, train
from tests.test_dataset import episodes
from tests.test_formats import flat, write

SHORT = ["env=lineworld", "train.budget=6000", "seeds=[0,1]", *QUIET]


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Calls main.py with some words from `tmp_path`, in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, words)])
        code = main()
        return code, *capsys.readouterr()

    return call


def only_run(place: Path) -> Path:
    (run,) = (place / "runs").glob("*/*")
    return run


def test_a_run_folder_is_whole_and_main_mp_gives_the_same_numbers(tmp_path, here):
    words = (*SHORT, "video.enabled=true", "logger=tensorboard")
    code, out, err = here(*words, f"runs={tmp_path / 'a' / 'runs'}")
    assert (code, "return mean" in out) == (0, True), err
    (tmp_path / "b").mkdir()
    done = command("main_mp.py", *words, cwd=tmp_path / "b")
    assert (done.returncode, "return mean" in done.stdout) == (0, True), done.stderr
    a, b = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    for seed in (0, 1):
        assert metrics(a / f"seed_{seed}") == metrics(b / f"seed_{seed}")
        assert {p.name for p in (a / f"seed_{seed}").iterdir()} == {
            "metrics.jsonl",
            "status.json",
            "tensorboard",
            "checkpoints",
            "videos",
        }
        assert list((a / f"seed_{seed}" / "videos").glob("best*.mp4"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d_ppo_lineworld", str(a.relative_to(tmp_path / "a" / "runs")))
    expected = {"config.yaml", "run.json", "curve.csv", "curves.png", "train.log", "summary.md", "seed_0", "seed_1"}
    assert {p.name for p in a.iterdir() if not p.name.startswith(".")} == expected
    assert (
        (a / "curve.csv").read_text().splitlines()[0] == "seed,step,env_steps,updates,seconds,return_mean,return_std,"
        "return_min,return_median,return_max,length_mean,score"
    )
    record = json.loads((a / "run.json").read_text())
    assert {facts["status"] for facts in record["seeds"].values()} == {"done"}
    assert record["command"].startswith("python main.py env=lineworld")
    assert {"torch", "gymnasium", "python"} <= set(record["versions"])
    assert record["eval"] == {"episodes": 10, "actions": "mean"}


def test_a_study_draws_its_arms(tmp_path, here):
    code, _, err = here("+study=lineworld_lesson", "seeds=[0,1]", "train.budget=800", "train.eval_episodes=5", *QUIET)
    assert code == 0, err
    run = only_run(tmp_path)
    assert (run / "study.png").stat().st_size > 10_000
    table = (run / "summary.md").read_text()
    assert "| returns only (`vanilla`) | 2 |" in table  # as its picture calls it, and where it lies
    for arm in ("vanilla", "advantage", "advantage_fast", "ppo_fast"):
        assert f" (`{arm}`) | 2 |" in table
        assert (run / arm / "curves.png").exists()


def test_fifty_runs_in_one_second_have_fifty_folders(tmp_path):
    with ThreadPoolExecutor(50) as pool:
        paths = list(pool.map(lambda _: create(tmp_path, "ppo_cartpole"), range(50)))
    assert len(set(paths)) == 50
    assert all(path.is_dir() for path in paths)


def start(script: str, *words: str, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_checkpoint(process: subprocess.Popen, place: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(place.glob("runs/*/*/seed_*/checkpoints/latest")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interrupted_sweep_has_a_table_of_what_it_did_and_goes_on(tmp_path):
    process = start("main.py", "-m", "train.budget=512,10000000", "env=lineworld", "seeds=[0]", *QUIET, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("runs/*/*/*/seed_0/metrics.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (table,) = tmp_path.glob("runs/*/*_sweep/summary.md")
    assert "interrupted; continue with: python main.py resume=" in out
    assert "| **512** | **1** |" in table.read_text()
    assert re.search(r"\| 10000000 \| 0 \|.*\| 1 not finished \|", table.read_text())


LONG = ["env=lineworld", "train.budget=12000", "algo.num_steps=64", "seeds=[0,1]", *QUIET]


@pytest.mark.parametrize(
    ("script", "number"),
    [
        pytest.param("main.py", signal.SIGTERM, marks=pytest.mark.slow),
        ("main.py", signal.SIGKILL),
        ("main_mp.py", signal.SIGINT),
        pytest.param("main_mp.py", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_resumed_is_uninterrupted(script, number, tmp_path, here):
    process = start(script, *LONG, cwd=tmp_path)
    wait_for_checkpoint(process, tmp_path)
    asked = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    run = only_run(tmp_path)
    if number != signal.SIGKILL:
        assert time.monotonic() - asked < 20
        assert process.returncode == 128 + number
        assert f"continue with: python {script} resume=runs/" in out
        assert "Traceback" not in err
        assert "interrupted" in json.loads((run / "run.json").read_text())["seeds"]["0"]["status"]
    if script == "main_mp.py":  # its workers must have died with it, or they would write into our folder
        time.sleep(1.5)
    other = "main_mp.py" if script == "main.py" else "main.py"  # either continues the other's runs
    done = command(other, f"resume={run.relative_to(tmp_path)}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        train(built(*LONG), tmp_path / "whole", seed)
        assert metrics(run / f"seed_{seed}") == metrics(tmp_path / "whole")
        (tmp_path / "whole").rename(tmp_path / f"whole_{seed}")
    code, out, _ = here(f"resume={run.relative_to(tmp_path)}")
    assert (code, "already finished" in out) == (0, True)


def test_resume_refuses_what_would_alter_the_past(tmp_path, here):
    here("env=lineworld", "train.budget=4000", "seeds=[0]", *QUIET)
    run = only_run(tmp_path).relative_to(tmp_path)
    for words, said in (
        ("algo.lr=0.1", "algo.lr: was 0.0003"),
        ("seeds=[0", "seeds=[0: '[0' cannot be read"),
        ("algo.foo=1", "a resumed run keeps its algo.foo"),
        ("train.budget=abc", "'abc' is not a whole number"),
        ("reference=nope", "no such gallery entry"),
        ("workers=x", "is not a whole number"),
        ("algo=vpg", "a resumed run keeps its algo"),
        ("train.budget=100", "can grow, not shrink"),
        ("seeds=[1]", "can be added, not dropped"),
    ):
        code, _, err = here(f"resume={run}", words)
        assert (code, said in err, err.count("\n")) == (2, True, 1), err
    code, _, err = here(f"resume={run}", "train.budget=8000", "seeds=[0,1]")
    assert code == 0, err
    checkpoint = max((tmp_path / run / "seed_0" / "checkpoints").glob("step_*"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    for other in checkpoint.parent.glob("step_*"):
        if other != checkpoint:
            other.unlink()
    code, _, err = here(f"resume={run}", "train.budget=9000")
    assert (code, err.count("\n")) == (2, 1), err
    assert "no other is left; remove that folder" in err
    checkpoint.unlink()
    (checkpoint.parent / "latest").unlink()
    (tmp_path / run / "run.json").write_text("{")
    code, _, err = here(f"resume={run}", "train.budget=9000")
    assert (code, "cannot be read as JSON" in err, err.count("\n")) == (2, True, 1), err


def test_resume_refuses_other_data(tmp_path, here):
    data = episodes([20, 9], discrete=True)
    data = replace(data, obs_NO=data.obs_NO[:, :2], action=data.action % 3, final_obs_EO=data.final_obs_EO[:, :2])
    file = write(tmp_path / "mine.npz", flat(data))
    words = ("algo=bc", "env=lineworld", f"buffer.path={file}", "train.budget=100", "seeds=[0]", *QUIET)
    code, _, err = here(*words)
    assert code == 0, err
    run = only_run(tmp_path)
    recorded = json.loads((run / "run.json").read_text())["inputs"]["buffer"]
    assert recorded == {"name": "mine.npz", "steps": 29, "episodes": 2, "digest": data.digest}
    file = file.rename(tmp_path / "moved.npz")
    code, _, err = here(f"resume={run}", "train.budget=150", f"buffer.path={file}")
    assert code == 0, err
    write(file, flat(replace(data, action=2 - data.action)))
    code, _, err = here(f"resume={run}", "train.budget=200")
    assert (code, "what buffer names has changed since it began" in err) == (2, True), err


def test_checkpoints_of_another_algorithm_are_refused(tmp_path):
    train(toy("vpg", "train.budget=400"), tmp_path / "seed_0")
    check_checkpoints(tmp_path, toy("vpg", "seeds=[0]", "train.budget=400"))
    with pytest.raises(UserError, match="is a checkpoint of vpg, the run is one of bc"):
        check_checkpoints(tmp_path, toy("bc", "seeds=[0]"))
    found = checkpoint.latest(tmp_path / "seed_0" / "checkpoints")
    (tmp_path / "seed_0" / "checkpoints" / "latest").unlink()
    assert checkpoint.latest(tmp_path / "seed_0" / "checkpoints") == found


def test_broken_records_are_one_line(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{")
    for call in (lambda: publish(tmp_path), lambda: read_record(tmp_path)):
        with pytest.raises(UserError, match=r"run\.json: cannot be read as JSON"):
            call()
    for text in ("arms: [", "title: x"):
        (tmp_path / "study.yaml").write_text(text)
        for call in (history.folders, lambda place: resume(place, [])):
            with pytest.raises(UserError, match=r"study\.yaml: (line 2: cannot be read|has no 'metric')"):
                call(tmp_path)


def test_growing_the_budget_is_training_longer(tmp_path):
    often = ["algo.num_steps=64", "train.save_every=1024", "train.eval_every=1024"]
    short, long = (
        toy("ppo", "train.budget=2048", *often),
        toy("ppo", "train.budget=4096", *often, "algo.anneal_steps=2048"),
    )
    train(short, tmp_path / "grown")
    train(long, tmp_path / "grown")
    train(long, tmp_path / "whole")
    assert metrics(tmp_path / "grown") == metrics(tmp_path / "whole")


def test_a_failed_seed_is_reported_and_the_others_go_on(tmp_path):
    """A learning rate that overflows fails every seed at its first NaN; a broken checkpoint fails one of two."""
    done = command("main_mp.py", *SHORT, "algo.lr=1e30", cwd=tmp_path)
    assert done.returncode == 1
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert {facts["status"] for facts in record["seeds"].values()} == {"failed"}
    assert "the loss loss/value is inf" in record["seeds"]["0"]["message"]
    assert "FloatingPointError" in (only_run(tmp_path) / "train.log").read_text()


@pytest.mark.parametrize("script", [pytest.param("main.py", marks=pytest.mark.slow), "main_mp.py"])
def test_one_bad_seed_takes_no_other_down(script, tmp_path, here):
    here(*LONG, "train.budget=4000")
    run = only_run(tmp_path)
    final = run / "seed_0" / "checkpoints" / "final.safetensors"
    final.unlink()
    final.mkdir()  # no file can be put there: the seed fails
    done = command(script, f"resume={run}", "train.budget=8000", cwd=tmp_path)
    assert done.returncode == 1
    record = json.loads((run / "run.json").read_text())
    assert [record["seeds"][seed]["status"] for seed in "01"] == ["failed", "done"]
    assert "final.safetensors" in (run / "summary.md").read_text()
    assert (record["final"]["n"], record["final"]["failed"]) == (1, 1), "a seed that failed has no final score"
    rows = run / "seed_0" / "metrics.jsonl"
    rows.write_bytes(rows.read_bytes()[:50])  # its checkpoint now says more than is there
    code, _, err = here(f"resume={run}", "train.budget=9000")
    assert (code, "shorter than the checkpoint says" in err) == (2, True), err


def test_an_infinite_loss_is_named_and_leaves_files_that_everybody_can_read(tmp_path):
    """The value loss is infinite from the first step on."""
    words = ["algo=vpg", "env=sphere", "env.kwargs.optimum=[1e15,1e15]", "train.budget=64", "seeds=[0,1]"]
    done = command("main.py", *words, "algo.num_envs=2", "algo.steps_per_epoch=8", *QUIET, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    text = (only_run(tmp_path) / "run.json").read_text()
    record = json.loads(text, parse_constant=pytest.fail)
    assert {facts["status"] for facts in record["seeds"].values()} == {"failed"}
    assert "the loss loss/value is inf" in record["seeds"]["0"]["message"]


def test_an_episode_without_end_is_said_and_a_limit_gives_it_one(tmp_path, monkeypatch):
    from rlexp.envs import vector
    from rlexp.envs.vector import VecEnv

    monkeypatch.setattr(vector, "ENDLESS", 30)
    env = built("env=gym", "env.id=CliffWalking-v1").env
    for limit, autoreset, steps in ((None, False, 30), (40, False, 40), (None, True, 40)):
        many = VecEnv(replace(env, max_episode_steps=limit), [0], autoreset=autoreset)
        many.reset()
        for _ in range(steps):
            many.step(np.zeros(1, int))
    many = VecEnv(env, [0], autoreset=False)
    many.reset()
    for _ in range(30):
        many.step(np.zeros(1, int))
    with pytest.raises(UserError, match=r"an episode of 'CliffWalking-v1' goes on .* env.max_episode_steps"):
        many.step(np.zeros(1, int))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_second_signal_does_not_keep_the_record_from_being_closed(number, tmp_path, monkeypatch):
    real = Work.close

    def close(work, whole):
        os.kill(os.getpid(), number)
        real(work, whole)

    monkeypatch.setattr(Work, "close", close)
    run = toy("cmaes", "train.budget=4")
    work = Work(tmp_path, [(Folder(tmp_path, run.plain, "updates"), run)])
    before = signal.signal(number, _terminate)
    try:
        assert execute(work, Serial(Serial.Config())) == 0
        assert signal.getsignal(number) == _terminate
    finally:
        signal.signal(number, before)
    assert json.loads((tmp_path / "run.json").read_text())["finished"]


def test_a_killed_worker_is_a_failed_seed(tmp_path):
    process = start("main_mp.py", *LONG, "train.budget=200000", "workers=1", cwd=tmp_path)
    wait_for_checkpoint(process, tmp_path)
    children = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    worker = next(int(line.split()[0]) for line in children.stdout.splitlines() if "spawn_main" in line)
    os.kill(worker, signal.SIGKILL)
    time.sleep(6)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert record["seeds"]["0"]["status"] == "failed"
    assert "ended with code -9" in record["seeds"]["0"]["message"]
    assert record["seeds"]["1"]["status"] == "interrupted", "the second seed must have been started"


def test_an_unwritable_place_is_said_before_training(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = command("main.py", *SHORT, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot make a run folder" in done.stderr


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    run, saves = toy("ppo"), []
    real = checkpoint.save_file

    def fills_up(tensors, path, metadata):
        real(tensors, path, metadata)
        if "step_" in str(path):
            saves.append(path)
            if len(saves) == 3:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fills_up)
    with pytest.raises(OSError, match="No space left"):
        train(run, tmp_path / "a")
    monkeypatch.setattr(checkpoint, "save_file", real)
    found = checkpoint.latest(tmp_path / "a" / "checkpoints")
    assert set(checkpoint.load(found)) == {"policy", "algo", "run", "rng"}
    assert not list((tmp_path / "a" / "checkpoints").glob(".*tmp"))
    train(run, tmp_path / "a")
    train(run, tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


@pytest.mark.parametrize("words", [("algo=cmaes", "env=sphere"), ("+study=lineworld_lesson",)])
def test_a_disk_that_is_full_at_the_start_is_left_as_it_was(words, tmp_path, monkeypatch):
    composed = compose([*words, f"runs={tmp_path}"])

    def full(path, text):
        path.write_text(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        (plan.study(composed, "x", []) if "study" in composed else plan.single(composed)).begin()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("algo=cmaes",), ("-m", "algo=cmaes", "seeds=[0]"), ("+study=lineworld_lesson",)])
def test_an_interruption_before_training_is_said(words, monkeypatch, here):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "probe", interrupted)
    code, out, _ = here(*words, "env=sphere")
    assert (code, out.splitlines()[-1].partition(";")[0]) == (130, "interrupted before training began")


def test_two_processes_do_not_share_a_folder(tmp_path, here):
    process = start("main.py", *LONG, "train.budget=300000", cwd=tmp_path)
    wait_for_checkpoint(process, tmp_path)
    code, _, err = here(f"resume={only_run(tmp_path)}")
    process.kill()
    process.communicate()
    assert (code, "another process" in err) == (2, True), err


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_twenty_kills_change_nothing(algo, tmp_path):
    """Killed -9 at twenty random moments, then finished: the same metrics, bit for bit."""
    budget = {"env_steps": 300_000, "updates": 1500}[toy(algo).algo_class.clock]
    words = [f"algo={algo}", "env=lineworld", "seeds=[0]", f"train.budget={budget}", *QUIET]
    words += [f"train.save_every={budget // 40}", f"train.eval_every={budget // 10}"]
    process = start("main.py", *words, cwd=tmp_path)
    wait_for_checkpoint(process, tmp_path)
    steps = []
    for _ in range(20):
        time.sleep(random.uniform(0, 1))
        assert process.poll() is None, "it finished before it was killed twenty times: a larger budget is needed"
        process.kill()
        process.communicate()
        steps.append(metrics(only_run(tmp_path) / "seed_0")[-1]["step"])
        process = start("main.py", f"resume={only_run(tmp_path)}", cwd=tmp_path)
        time.sleep(random.uniform(1.5, 3.5))  # importing torch takes a good part of it
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    train(built(*words), tmp_path / "whole")
    assert metrics(only_run(tmp_path) / "seed_0") == metrics(tmp_path / "whole")
    print(f"{algo}: killed 20 times, at steps {steps} of {budget}; then all metrics equal")


def test_a_run_whose_output_nobody_reads_goes_on(tmp_path):
    process = start("main.py", *SHORT, "train.budget=2000", cwd=tmp_path)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert json.loads((only_run(tmp_path) / "run.json").read_text())["final"]["n"] == 2


def test_every_fires_on_crossing_not_on_modulo():
    every = Every(100, 0)
    assert [every(step) for step in (64, 128, 192, 256, 320, 501)] == [False, True, False, True, True, True]
    assert Every(100, 250)(299) is False


def test_logs_survive_a_half_written_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_process_whose_seed_another_has_taken_over_writes_nothing_more(tmp_path, monkeypatch):
    run = toy("cmaes", "env=sphere", "train.budget=10", "train.eval_episodes=2")
    monkeypatch.setattr(processor, "name", lambda: "Old")
    late = run_seed(run, 0, tmp_path)
    for _ in range(5):  # two rows after the first
        next(late)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(processor, "name", lambda: "New")
    events = train(run, tmp_path, stop_after=3)
    assert [event.text for event in events if event.kind == "warning"] == [
        "was on Old, goes on on New: the last digits may differ from there on"
    ]
    now = (tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "status.json").read_bytes()
    assert next(late).kind == "progress"  # it evaluates
    with pytest.raises(status.Superseded, match="another process trains this seed now"):
        next(late)
    assert now == ((tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "status.json").read_bytes())
    assert metrics(tmp_path)[: len(before.splitlines()) - 1]
    (tmp_path / "seed_0").mkdir()
    status.begin(tmp_path / "seed_0", {"step": 0})
    job = SeedJob(tmp_path, 0)
    assert job.failed(status.Superseded("taken")).kind == "failed"
    assert status.read(job.folder)["status"] == "running"
