"""rlexp as pip installs it: its files inside of the package, what is published beside the user's runs."""

import json
import os
import subprocess
import sys

import pytest

from rlexp.experiment.provenance import command
from rlexp.policies.files import find_policy
from rlexp.report.publish import publish
from rlexp.report.references import find
from rlexp.report.ship import ship
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
    seeds = json.loads((run / "run.json").read_text())["seeds"]
    for stem in ("ppo_hopper", "ppo_hopper-long"):
        (paths.GALLERY / f"{stem}.csv").write_text((run / "curve.csv").read_text())
        card = {"config": {}, "seeds": seeds, "clock": "env_steps"}
        (paths.GALLERY / f"{stem}.json").write_text(json.dumps(card))
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
    assert (shown.returncode, "\nseeds:" in shown.stdout) == (0, True)


TINY = ["train.budget=2048", "train.eval_episodes=2", "seeds=[0]", "video=none", "logger=none"]
NOTEBOOK = f"""
import rlexp
run = rlexp.train("env=lineworld", *{TINY[:2] + TINY[3:]}, seeds=[0])
assert set(run.scores) == {{0}}
assert rlexp.load_policy("ppo-hopper").card["algo"] == "ppo"
assert rlexp.evaluate(rlexp.load_policy(run.folder), episodes=2)["length_mean"] == 20
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder with rlexp as pip unpacks it, and nothing else."""
    pytest.importorskip("hatchling", reason="builds the wheel: pip install hatchling")
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, ROOT], check=True)
    (file,) = place.glob("rlexp-*.whl")
    assert file.stat().st_size < 25e6
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", place / "site", file], check=True)
    return place / "site"


@pytest.fixture
def python(wheel, tmp_path):
    """Runs `python *words` in an empty folder, with the wheel's rlexp and no other. Returns what it says."""

    def run(*words, code=0):
        environment = {**os.environ, "PYTHONPATH": str(wheel)}
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_the_wheel_is_the_package_with_its_configs_references_and_policies(wheel, python):
    assert python("-c", "import rlexp; print(rlexp.__file__)") == f"{wheel / 'rlexp' / '__init__.py'}\n"
    for ending in ("yaml", "csv", "json", "safetensors"):
        ours = {
            file.relative_to(ROOT) for folder in ("conf", "gallery") for file in (ROOT / folder).rglob(f"*.{ending}")
        }
        assert {file.relative_to(wheel / "rlexp") for file in (wheel / "rlexp").rglob(f"*.{ending}")} == ours
    assert not list(wheel.rglob("*.png"))
    assert {path.name.split("-")[0] for path in wheel.iterdir()} == {"rlexp", "bin"}


def test_a_wheel_trains_evaluates_and_publishes_in_any_folder(python, tmp_path):
    said = python("-m", "rlexp", "train", "env=lineworld", *TINY)
    assert "`python -m rlexp train env=lineworld" in said
    (run,) = tmp_path.glob("runs/*/*")
    assert "finished" in python("-m", "rlexp", "train", f"resume={run.relative_to(tmp_path)}")
    assert "n = 2" in python("-m", "rlexp", "eval", "ppo-cartpole", "--episodes", "2")
    assert python("-m", "rlexp", "publish", str(run), "--episodes", "0") == "gallery/ppo_lineworld.csv\n"
    assert "did you mean" in python("-m", "rlexp", "train", "lr=1", code=2)


def test_a_wheel_has_data_sets_and_a_notebooks_face(python, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert "hopper" in python("-m", "rlexp", "data", "list")
    python("-c", NOTEBOOK)
    assert len(list(tmp_path.glob("runs/*/*_ppo_lineworld"))) == 1


@pytest.mark.slow
def test_a_wheel_has_experiments_that_make_their_data_and_studies(python, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    python("-m", "rlexp", "train", "+experiment=bc_toy", *TINY[1:], "train.budget=50")
    python("-m", "rlexp", "train", "+study=lineworld_lesson", *TINY[1:], "train.budget=80")
    assert len(list(tmp_path.glob("runs/*/*_bc_lineworld"))) == 1
    assert len(list(tmp_path.glob("runs/*/*study_lineworld_lesson/*/curve.csv"))) == 4


def test_a_wheel_examines_the_machine(python):
    assert "packages: rlexp" in python("-m", "rlexp", "doctor")
