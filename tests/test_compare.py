"""`rlexp compare` of runs, entries and files in any mixture; beside a baseline; over several environments."""

import json
import shlex

import pytest

from rlexp.cli import main
from rlexp.cli.commands import compare as commands
from rlexp.report.publish import publish
from rlexp.util import paths
from tests.helpers import ROOT
from tests.test_check import STEPS, run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A gallery with one entry, a run and a csv of somebody's; the current folder."""
    monkeypatch.setattr(paths, "GALLERY", tmp_path / "gallery")
    monkeypatch.chdir(tmp_path)
    publish(run(tmp_path / "old", [1000, 1010, 990, 1005, 995]))
    run(tmp_path / "run", [500, 510, 490], seeds=[7, 8, 9])
    lines = [f"{seed},{step},{end * step / 50_000}" for seed, end in enumerate((1000, 1004, 996)) for step in STEPS]
    (tmp_path / "progress.csv").write_text("\n".join(["who,frames,R", *lines]))
    return tmp_path


COLUMNS = ("--step", "frames", "--value", "R", "--seed", "who")


def said(capsys, *words):
    code = main.main(["compare", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_runs_entries_and_files_stand_side_by_side(place, capsys):
    words = ["ppo_hopper", "run", "progress.csv", *COLUMNS, "--against", "ppo_hopper"]
    code, out, _ = said(capsys, *words, "--json")
    facts = json.loads(out)
    assert (code, facts["against"], facts["methods"]) == (0, "ppo_hopper", [])
    assert [(row["run"], row["n"], row.get("verdict")) for row in facts["runs"]] == [
        ("ppo_hopper", 5, None),
        ("run", 3, "worse"),
        ("progress", 3, "matches"),
    ]
    assert facts["runs"][1]["difference"] < -400
    assert (place / "compare.png").stat().st_size > 10_000
    table = said(capsys, *words)[1].splitlines()
    assert table[0].endswith("| beside ppo_hopper |")
    assert {line.count("|") for line in table[:5]} == {8}


def test_methods_are_told_over_the_environments_that_they_share(place, capsys):
    for env, ends in (("pond", [1.0, 2, 3]), ("lake", [10.0, 20, 30])):
        for n, up in ((1, 0), (2, 4 * ends[0])):
            config = {"env.name": env, "env.id": f"{env}-v0", "algo.n": n}
            config["algo._target_"] = f"rlexp.algos.{'ppo' if n == 1 else 'sac'}.X"
            run(place / f"{env}{n}", [1000 * (end + up) for end in ends], config=config)
    words = ["pond1", "lake1", "pond2", "lake2", "--against", "pond1"]
    code, out, _ = said(capsys, *words, "--json")
    ours, other = json.loads(out)["methods"]
    assert (code, ours["method"], other["method"], other["environments"]) == (0, "ppo", "sac", 2)
    assert other["improvement"] == [1.0, 1.0, 1.0]
    assert other["iqm"][0] > ours["iqm"][0]
    assert (place / "compare-profiles.png").stat().st_size > 10_000
    assert "| method | environments | IQM (95 % bootstrap) | probability of improvement |" in said(capsys, *words)[1]


def test_mistakes_cost_one_line(place, capsys):
    for words, message in (
        (["ppo_hoper"], "did you mean 'ppo_hopper'"),
        (["run", "ppo_hopper", "--against", "ppo_hoper"], "none of them is called so; did you mean 'ppo_hopper'"),
        (["progress.csv", "--value", "Q"], "Q"),
        (["run", "run"], "as many different names"),
    ):
        code, _, err = said(capsys, *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err


def test_the_readmes_commands(place, capsys):
    """Those of 'Is my curve right?', on a run, a file and the gallery that there are."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Is my curve right?\n")[1].split("\n## ")[0]
    typed = [line for line in section.splitlines() if line.startswith("rlexp ")]
    assert len(typed) == 5
    lines = [f"{seed},{step},{1000 * step / 50_000}" for seed in range(3) for step in STEPS]
    (place / "progress.csv").write_text("\n".join(["seed,step,value", *lines]))
    codes = []
    for line in typed[:4]:
        words = shlex.split(line, comments=True)[1:]
        codes.append(main.main(["run" if word == "runs/DAY/RUN" else word for word in words]))
    assert codes == [1, 1, 0, 0]
    assert "ppo_hopper" in capsys.readouterr().out


def test_equal_values_have_no_interval():
    row = {"run": "a", "n": 3, "missing": 0, "mean": 500.0, "t95": 0.0, "min": 500.0, "max": 500.0}
    assert commands._line(row, beside=False) == "| a | 3 | 500 |  | 500 | 500 |"
    assert commands._line({**row, "t95": 2.5}, beside=False) == "| a | 3 | 500 | ± 2.5 | 500 | 500 |"
