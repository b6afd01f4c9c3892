"""rlexp as pip installs it: its files inside of the package, what is published beside the user's runs."""

import subprocess
import sys

import pytest

from rlexp.experiment.provenance import command
from rlexp.policies.files import find_policy
from rlexp.report.publish import publish
from rlexp.report.ship import ship
from rlexp.report.references import find
from rlexp.util import paths
from rlexp.util.errors import UserError
from tests.datasets import policy_file
from tests.helpers import ROOT
from tests.test_plot import write_run


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As from a wheel: shipped files in one folder, the user in another."""
    monkeypatch.setattr(paths, "INSTALLED", True)
    monkeypatch.setattr(paths, "GALLERY", tmp_path / "package" / "gallery")
    monkeypatch.setattr(paths, "POLICIES", tmp_path / "package" / "gallery" / "policies")
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "user")
    return tmp_path / "user"


def test_published_curves_go_beside_the_runs_and_come_before_shipped_ones(installed):
    paths.GALLERY.mkdir(parents=True)
    run = write_run(installed / "run")
    for stem in ("ppo_hopper", "ppo_hopper-long"):
        (paths.GALLERY / f"{stem}.csv").write_text((run / "curve.csv").read_text())
        (paths.GALLERY / f"{stem}.json").write_text('{"config": {}}')
    assert find(None, "ppo_hopper") == paths.GALLERY / "ppo_hopper.csv"
    assert publish(run).resolve() == installed / "gallery" / "ppo_hopper.csv"
    assert find(None, "ppo_hopper").resolve() == installed / "gallery" / "ppo_hopper.csv"
    assert find("ppo_hopper-long", "").parent == paths.GALLERY


def test_published_policies_go_beside_the_runs_and_come_before_shipped_ones(installed):
    paths.POLICIES.mkdir(parents=True)
    policy_file(paths.POLICIES / "good.safetensors")
    policy_file(paths.POLICIES / "ladder" / "policy_000000.safetensors")
    assert find_policy("good") == [paths.POLICIES / "good.safetensors"]
    (installed / "seed_0").mkdir()
    policy_file(installed / "seed_0" / "checkpoints" / "final.safetensors")
    assert ship(installed, "good").resolve() == installed / "gallery" / "policies" / "good.safetensors"
    assert find_policy("good")[0].resolve() == installed / "gallery" / "policies" / "good.safetensors"
    assert find_policy("ladder/policy_000000") == [paths.POLICIES / "ladder" / "policy_000000.safetensors"]
    with pytest.raises(UserError, match="did you mean 'good'"):
        find_policy("goood")


@pytest.mark.parametrize(
    ("called", "said"),
    [
        (["/somewhere/main.py", "seeds=[0,1]"], "python main.py 'seeds=[0,1]'"),
        (["main_mp.py"], "python main_mp.py"),
        (["/venv/bin/rlexp train", "env=hopper"], "rlexp train env=hopper"),
        (["/lib/my train/rlexp/__main__.py train", "-m"], "python -m rlexp train -m"),
        (["C:/train/rlexp.exe"], "rlexp"),
    ],
)
def test_the_record_says_what_was_typed(called, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", called)
    assert command() == said


@pytest.mark.parametrize("called", [["-m", "rlexp"], [str(ROOT / "main.py")]])
def test_train_is_main(called, tmp_path):
    words = called + ["train"] * ("rlexp" in called)
    done = subprocess.run([sys.executable, *words, "lr=1"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: lr: unknown option; did you mean 'algo.lr'?\n"
    shown = subprocess.run([sys.executable, *words, "--cfg", "job"], cwd=tmp_path, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout[:5]) == (0, "seeds")
