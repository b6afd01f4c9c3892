"""rlexp from a notebook: the command line's run, one line for a mistake, nothing of ours left behind."""

import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import rlexp
from rlexp.cli import main
from rlexp.cli.notebook import TrainedRun, written
from rlexp.experiment import train as training
from rlexp.util import configs, paths
from rlexp.util.errors import UserError
from tests.helpers import QUIET, ROOT, command, metrics

TINY = ["env=lineworld", "train.budget=2048", "train.eval_episodes=2", *QUIET]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two seeds, trained as in a notebook that lies in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        return rlexp.train(*TINY, seeds=[0, 1])


def test_a_run_knows_its_policies_scores_and_curve(run):
    assert run.folder.parent.parent.name == "runs"
    assert run.folder.name in repr(run)
    assert "seed 1 done" in repr(run)
    assert run.policy(1).path.parent.parent.name == "seed_1"
    assert run.policy(1, "best").card["seed"] == 1
    assert set(run.scores) == {0, 1}
    steps, returns = run.curve()[0]
    assert steps[-1] == 2048
    assert returns[-1] == run.scores[0]["return_mean"]
    assert rlexp.evaluate(rlexp.load_policy(run.folder), episodes=2)["length_mean"] == 20


def test_the_command_line_gives_the_same_numbers_and_stands_in_the_record(run, tmp_path):
    typed = " ".join(TINY)
    assert run.record["command"] == f"rlexp train {typed} 'seeds=[0,1]'"
    assert command("main.py", *TINY, "seeds=[1]", f"runs={tmp_path}", cwd=tmp_path).returncode == 0
    (seed,) = tmp_path.glob("*/*/seed_1")
    assert metrics(seed) == metrics(run.folder / "seed_1")


def test_a_run_goes_on(run):
    longer = rlexp.train(resume=str(run.folder), **{"train.budget": 4096})
    assert longer.curve()[0][0][-1] == 4096
    assert longer.record["resumed"][0]["command"].startswith("rlexp train resume=")


def test_the_notebook_keeps_its_chance_threads_and_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(), list(sys.argv))
    rlexp.train(*TINY, seeds=[0])
    assert (random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(), list(sys.argv)) == before


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["lr=1"], {}, "lr: unknown option; did you mean 'algo.lr'?"),
        (["algo=pppo"], {}, "algo=pppo: no such algo; did you mean 'ppo'?"),
        (["env=true"], {}, "env=true: no such env"),
        (["-m"], {}, "-m: a notebook takes options"),
        (["ppo"], {}, "ppo: a notebook takes options"),
        (["+study=swimmer_dpo"], {}, "rlexp train +study=swimmer_dpo"),
        (["seeds=[0]"], {"seeds": [1]}, "seeds: stands in a word and in seeds=[1]; give one of them"),
        (["--config-dir", "x"], {}, "--config-dir: is an argument here, train(..., config_dir='mine')"),
        ([], {"config_dir": "nowhere"}, "--config-dir: there is no folder 'nowhere'"),
        ([], {"seeds": [-1]}, "seeds: -1 is not a whole number"),
        ([], {"seeds": object}, "is no number, word, list or dict"),
        ([], {"resume": "nowhere"}, "resume=nowhere: no run folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(words, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rlexp.UserError) as error:
        rlexp.train(*words, **options)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with an environment and a logger of one's own, for --config-dir."""
    monkeypatch.chdir(tmp_path)
    for group, name, text in (
        ("env", "short", (paths.CONF / "env" / "lineworld.yaml").read_text()),
        ("logger", "slow", "slow: {_target_: rlexp.loggers.tensorboard.TensorBoard, flush_every: 600}\n"),
    ):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / f"{name}.yaml").write_text(text)
    with configs.forgetting():
        yield tmp_path / "mine"


def test_configs_of_ones_own_are_found_by_every_command(mine, capsys):
    words = ["env=short", "train.budget=2048", "train.eval_episodes=2", *QUIET]
    run = rlexp.train(*words, config_dir=mine, seeds=[0])
    assert run.record["command"].startswith(f"rlexp train --config-dir {mine} env=short")
    again = rlexp.train(resume=run.folder, config_dir=mine, logger="slow", **{"train.budget": 4096})
    assert list(again.config["logger"]) == ["slow"]
    with pytest.raises(UserError, match="no such env"):
        rlexp.train(*words)
    for words in (["track", run.folder, "--to", "slow"], ["data", "import", "x.npz", "mine", "--env", "short"]):
        with configs.forgetting():
            assert main.main([str(word) for word in words]) == 2
            refused = capsys.readouterr().err
            assert "no such logger" in refused or "no environment 'short'" in refused
            main.main([*map(str, words), f"--config-dir={mine}"])
            assert capsys.readouterr().err in ("", "error: x.npz: no such file\n")


def test_a_notebook_shows_a_mistake_without_traceback():
    assert UserError("what is wrong")._render_traceback_() == ["error: what is wrong"]


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(f"import rlexp\nrlexp.train(*{TINY}, 'engine=processes', seeds=[0])\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stderr.count("train below if __name__ ==") == 1
    assert "does your script train outside of if __name__ ==" in done.stdout
    assert len(list(tmp_path.glob("runs/*/*"))) == 1


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate = training.Scorer.evaluate
    calls = []

    def stop_at_the_second(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training.Scorer, "evaluate", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            rlexp.train(*TINY, seeds=[0])
    (folder,) = tmp_path.glob("runs/*/*")
    assert TrainedRun.read(folder).record["seeds"]["0"]["status"] == "interrupted"
    assert set(rlexp.train(resume=folder).scores) == {0}


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (1e-3, "0.001"),
        ("hopper", "hopper"),
        ("my run's", "'my run\\'s'"),
        ("12", "'12'"),
        ("null", "'null'"),
        ("/data/my-runs", "/data/my-runs"),
        (range(2), "[0,1]"),
        (("a", None), "[a,null]"),
        ({"dims": 2}, "{dims:2}"),
        (Path("runs/a b"), "'runs/a b'"),
    ],
)
def test_values_are_written_as_on_the_command_line(value, word):
    assert written(value) == word


def test_a_script_beside_the_clone_imports_the_package(tmp_path):
    """There the clone's folder has the package's name, and is none itself."""
    (place,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["dev-mode-dirs"]
    (tmp_path / "rlexp").mkdir()
    (tmp_path / "mine.py").write_text("import rlexp\nprint(rlexp.__file__)\n")
    said = command(
        str(tmp_path / "mine.py"), cwd=tmp_path, PYTHONPATH=str(ROOT / place)
    )  # as the line in the .pth file
    assert said.stdout.strip() == str(ROOT / "rlexp" / "__init__.py"), said.stderr
