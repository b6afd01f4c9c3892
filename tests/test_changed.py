"""What was recorded is what is resumed: changed configs, metrics and checkpoints are noticed, broken ones survived."""

import json
import shutil

import pytest

from rlexp.cli import main
from rlexp.cli.launch import execute
from rlexp.engines.serial import Serial
from rlexp.experiment import plan
from rlexp.experiment.compose import compose
from rlexp.experiment.resume import resume
from rlexp.util import checkpoint
from rlexp.util.errors import UserError
from tests.helpers import QUIET, metrics

WORDS = ["algo=cmaes", "env=sphere", "seeds=[0,1]", "train.budget=10", "train.save_every=2", *QUIET]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of ten updates that has ended."""
    work = plan.single(compose([*WORDS, f"runs={tmp_path_factory.mktemp('runs')}"]))
    assert execute(work, Serial(Serial.Config())) == 0
    return work.path


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_run_json_is_made_again_of_what_the_seeds_remember(run):
    before = json.loads((run / "run.json").read_text())
    (run / "run.json").unlink()
    assert main.main(["refresh", str(run)]) == 0
    assert json.loads((run / "run.json").read_text()) == before
    for seed in (0, 1):
        change(run / f"seed_{seed}" / "status.json", '"run": {', '"ran": {')
    (run / "run.json").unlink()
    assert main.main(["refresh", str(run)]) == 2


def longer(run):
    return resume(run, ["train.budget=12"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("save_every: 2", "save_every: 3", "train.save_every is 3, and seed 0 was trained with 2 until step 10"),
        ("threads: 1", "threads: 2", "train.threads is 2"),
        ("population_size:", "population_size: 50 #", "algo.population_size is 50"),
        ("budget: 10", "budget: 4", "train.budget was 10; it can grow, not shrink to 4"),
        ("- 1\n", "", "has lost seed 1"),
        ("save_every:", "saveevery:", r"run/config\.yaml: train\.saveevery: unknown option"),
        ("threads: 1", "threads: one", r"run/config\.yaml: train\.threads: "),
    ],
)
def test_a_changed_config_is_noticed(old, new, said, run):
    change(run / "config.yaml", old, new)
    with pytest.raises(UserError, match=said):
        resume(run, [])


def test_a_changed_config_is_noticed_before_the_first_checkpoint(run):
    for seed in (0, 1):
        shutil.rmtree(run / f"seed_{seed}")
    assert len(longer(run).jobs()) == 2
    change(run / "config.yaml", "save_every: 2", "save_every: 3")
    with pytest.raises(UserError, match="has been changed since the run began"):
        longer(run)


@pytest.mark.parametrize("old_new", [('"step": 2', '"step": 3'), ("\n", "\r\n"), ("1", "2")])
def test_changed_metrics_are_noticed(old_new, run):
    file = run / "seed_1" / "metrics.jsonl"
    file.write_bytes(file.read_bytes().replace(old_new[0].encode(), old_new[1].encode()))
    with pytest.raises(UserError, match=r"seed_1/metrics\.jsonl: is "):
        longer(run)


def flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_the_checkpoint_before_stands_in_for_a_broken_one(harm, run, finished, capsys):
    """And the run ends with the numbers of one that nothing had happened to."""
    places = run / "seed_0" / "checkpoints"
    newest = checkpoint.latest(places)
    if harm == "flipped":
        flip(newest)
    else:
        newest.unlink()
    whole = shutil.copytree(finished, run.parent / "whole")
    assert execute(longer(run), Serial(Serial.Config())) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(said) == 1
    assert "seed 0 goes on from step 8" in said[0]
    assert execute(longer(whole), Serial(Serial.Config())) == 0
    assert metrics(run / "seed_0")[-1] == metrics(whole / "seed_0")[-1]


def test_no_checkpoint_left_is_one_line_that_says_what_to_do(run):
    for file in (run / "seed_0" / "checkpoints").glob("step_*"):
        flip(file)
    with pytest.raises(UserError, match="no other is left; remove that folder"):
        longer(run)
    shutil.rmtree(run / "seed_0" / "checkpoints")
    assert len(longer(run).jobs()) == 2


def test_another_runs_checkpoint_is_noticed(run):
    ours, theirs = (checkpoint.latest(run / f"seed_{seed}" / "checkpoints") for seed in (0, 1))
    shutil.copy(theirs, ours)
    with pytest.raises(UserError, match="is not the checkpoint that seed 0 has saved"):
        longer(run)


def test_other_code_that_goes_on_is_said(run):
    assert longer(run).notes == []
    record = json.loads((run / "run.json").read_text())
    was = {"commit": "0" * 40, "versions": {**record["versions"], "torch": "1.0"}}
    (run / "run.json").write_text(json.dumps({**record, "resumed": [was]}))
    (said,) = longer(run).notes
    assert said.startswith("goes on with other code: commit 0000000, now ")
    assert "; torch 1.0, now " in said


def test_runs_without_digests_are_resumed_as_before(run):
    """Those of versions that kept none."""
    for seed in (0, 1):
        place = run / f"seed_{seed}"
        file = checkpoint.latest(place / "checkpoints")
        tree = checkpoint.load(file)
        for key in ("metrics", "config", "budget"):
            del tree["run"][key]
        checkpoint.save(file, tree)
        facts = json.loads((place / "status.json").read_text())
        del facts["saved"]
        (place / "status.json").write_text(json.dumps(facts))
    record = json.loads((run / "run.json").read_text())
    del record["config_digest"]
    (run / "run.json").write_text(json.dumps(record))
    assert execute(longer(run), Serial(Serial.Config())) == 0
