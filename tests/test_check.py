"""`rlexp check` and the verdict at a run's end: which reference, what differs, which word, which exit code."""

import json
import shutil

import numpy as np
import pytest

from rlexp.cli import main
from rlexp.experiment.folder import Folder
from rlexp.report import curves as curves_file
from rlexp.report import references, sides
from rlexp.report.history import Run
from rlexp.report.publish import publish
from rlexp.util import paths, processor
from tests.helpers import built
from tests.test_plot import write_run

STEPS = np.arange(0, 50_001, 1000)
KEYS = {
    *("verdict", "reference", "n", "n_reference", "difference", "half_width", "rows_equal", "differs_in"),
    *("unknown", "seeds_that_would_tell", "compared_until"),
}


@pytest.fixture(autouse=True)
def gallery(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "GALLERY", tmp_path / "gallery")


def said(capsys, *words):
    code = main.main(["check", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def found(capsys, *words):
    """(exit code, the object that --json prints)."""
    code, out, _ = said(capsys, *words, "--json")
    facts = json.loads(out)
    assert set(facts) >= KEYS
    return code, facts


def run(folder, ends, *, seeds=None, count=51, config=None, record=None):
    """A finished run whose seeds rise in straight lines, each to its end, of `count` evaluations."""
    seeds = seeds or list(range(len(ends)))
    write_run(folder, (1.0,) * len(ends))
    for old in folder.glob("seed_*"):
        shutil.rmtree(old)
    table = ["seed,step,env_steps,updates,seconds,return_mean,return_std,score"]
    for seed, end in zip(seeds, ends, strict=True):
        rng = np.random.default_rng(seed)
        rows = []
        for step in map(int, STEPS[:count]):
            value = float(end * step / STEPS[-1] + rng.normal())
            counters = {"step": step, "env_steps": step, "updates": step, "seconds": 0.0}
            rows.append(json.dumps({**counters, "eval/return_mean": value}))
            table.append(f"{seed},{step},{step},{step},0,{value},1.0,")
        (folder / f"seed_{seed}").mkdir()
        (folder / f"seed_{seed}" / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "curve.csv").write_text("\n".join(table) + "\n")
    facts = json.loads((folder / "run.json").read_text())
    states = facts["seeds"].values()
    facts["seeds"] = {str(seed): state for seed, state in zip(seeds, states, strict=True)}
    (folder / "run.json").write_text(json.dumps({**facts, **(record or {})}))
    plain = json.loads((folder / "config.yaml").read_text())
    plain["seeds"] = seeds
    for key, value in (config or {}).items():
        group, name = key.split(".")
        plain[group][name] = value
    (folder / "config.yaml").write_text(json.dumps(plain))
    return folder


@pytest.fixture
def reference(tmp_path):
    """Five seeds that rise to about 1000."""
    return publish(run(tmp_path / "old", [1000, 1010, 990, 1005, 995]))


@pytest.mark.parametrize(
    ("ends", "seeds", "verdict", "code"),
    [
        ([1000, 1010, 990], [0, 1, 2], "identical", 0),
        ([1002, 998, 1000], [7, 8, 9], "matches", 0),
        ([1003], [7], "matches", 0),
        ([1500, 1490, 1510], [7, 8, 9], "better", 0),
        ([500, 510, 490], [7, 8, 9], "worse", 1),
        ([500], [7], "unusual", 3),
        ([700, 1300, 900], [7, 8, 9], "cannot_tell", 3),
    ],
)
def test_verdicts_and_exit_codes(tmp_path, capsys, reference, ends, seeds, verdict, code):
    folder = run(tmp_path / "new", ends, seeds=seeds)
    returned, facts = found(capsys, folder)
    assert (facts["verdict"], returned) == (verdict, code)
    assert (facts["reference"], facts["n"], facts["n_reference"]) == ("ppo_hopper", len(ends), 5)
    assert facts["differs_in"] == {}
    assert (facts["rows_equal"] == facts["rows_shared"] > 0) == (verdict == "identical")
    assert (facts["seeds_that_would_tell"] is not None) == (verdict in ("cannot_tell", "unusual"))


def test_what_is_said_of_a_run(tmp_path, capsys, reference):
    _, out, _ = said(capsys, run(tmp_path / "new", [500, 510, 490], seeds=[7, 8, 9], config={"algo.lr": 1e-6}))
    first, *rest = out.splitlines()
    assert first.startswith("worse than ppo_hopper: its end is ")
    assert "90 % interval" in first
    assert "3 seeds beside 5" in first
    assert "- other settings: algo.lr 1e-06, there 0.0003" in rest


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"config": {"env.id": "Hopper-v4"}}, "env.id"),
        ({"config": {"env.kwargs": {"healthy_reward": 2}}}, "env.kwargs.healthy_reward"),
        ({"config": {"buffer.dataset": "expert"}}, "data"),
        ({"record": {"eval": {"episodes": 10, "actions": "sampled"}}}, "actions of evaluations"),
    ],
)
def test_another_problem_is_no_comparison(tmp_path, capsys, reference, changes, what):
    folder = run(tmp_path / "new", [500, 510, 490], seeds=[7, 8, 9], **changes)
    code, facts = found(capsys, folder)
    assert (code, facts["verdict"], list(facts["differs_in"])) == (3, "incomparable", [what])
    assert said(capsys, folder)[1].startswith(f"incomparable with ppo_hopper: {what} ")


def test_of_another_algorithm_its_own_options_are_not_listed(tmp_path, capsys, reference):
    other = {"algo._target_": "rlexp.algos.vpg.VPG", "algo.baseline": "value"}
    folder = run(tmp_path / "new", [500, 510, 490], seeds=[7, 8, 9], config=other)
    _, out, _ = said(capsys, folder, "--reference", "ppo_hopper")
    assert "other settings: algorithm rlexp.algos.vpg.VPG, there rlexp.algos.ppo.PPO\n" in out


def data(steps, episodes, digest, name="hopper/medium"):
    return {"inputs": {"buffer": {"name": name, "steps": steps, "episodes": episodes, "digest": digest}}}


@pytest.mark.parametrize(
    ("record", "verdict", "named"),
    [
        (data(1000, 100, "a"), "matches", []),
        (data(1000, 101, "b"), "matches", ["buffer digest"]),  # the recipe, followed on another processor
        (data(1000, 150, "b"), "incomparable", ["buffer digest"]),
    ],
)
def test_data_are_told_by_their_digest(tmp_path, capsys, record, verdict, named):
    config = {"buffer.dataset": "medium"}
    publish(run(tmp_path / "old", [1000, 1010, 990], config=config, record=data(1000, 100, "a")))
    folder = run(tmp_path / "new", [1002, 998, 1000], seeds=[7, 8, 9], config=config, record=record)
    _, facts = found(capsys, folder)
    assert (facts["verdict"], list(facts["differs_in"])) == (verdict, named)


def test_a_digest_that_a_card_lacks_is_unknown(tmp_path, capsys):
    config = {"buffer.dataset": "medium"}
    publish(run(tmp_path / "old", [1000, 1010, 990], config=config))
    hardware = {"hardware": {"cpu_family": "25"}}
    record = {**data(1000, 100, "a"), **hardware}
    folder = run(tmp_path / "new", [1002, 998, 1000], seeds=[7, 8, 9], config=config, record=record)
    assert found(capsys, folder)[1]["unknown"] == ["hardware.cpu_family", "data digest"]
    assert "- unknown of the reference: kind of processor, data digest" in said(capsys, folder)[1]


def test_the_reference_is_found_by_settings(tmp_path, capsys):
    publish(run(tmp_path / "five", [1000, 1010, 990], config={"algo.n": 5}))
    publish(run(tmp_path / "one", [500, 510, 490], config={"algo.n": 1}), "single")
    for n, entry, differing in ((5, "ppo_hopper", []), (1, "ppo_hopper-single", []), (3, "ppo_hopper", ["algo.n"])):
        folder = run(tmp_path / "new", [1000, 1010, 990], seeds=[7, 8, 9], config={"algo.n": n})
        _, facts = found(capsys, folder)
        assert (facts["reference"], list(facts["differs_in"])) == (entry, differing)


def test_settings_of_shipped_entries_find_these(monkeypatch):
    monkeypatch.undo()
    for words, entry in (
        (["algo=cmaes", "env=cartpole200"], "cmaes_cartpole200"),
        (["+experiment=cmaes_cartpole"], "cmaes_cartpole200-single"),
        (["algo=ppo", "env=hopper"], "ppo_hopper"),
        (["algo=vpg", "env=cartpole200"], "vpg_cartpole200"),
        ([], "ppo_cartpole"),
    ):
        config = built(*words)
        actions = "sampled" if config.train.eval_sampled else "mean"
        choice = references.choose({"config": config.plain, "eval": {"actions": actions}})
        assert choice.file.stem == entry
        assert choice.fits, choice.differences


def test_former_names_and_options_that_are_newer_than_a_card_do_not_differ(tmp_path, capsys):
    publish(run(tmp_path / "old", [1000, 1010, 990], config={"algo.clip": 0.2}))
    config = {"algo.clip_coef": 0.2, "algo.ent_coef": 0.0, "train.compile": False}
    folder = run(tmp_path / "new", [1002, 998, 1000], seeds=[7, 8, 9], config=config)
    assert found(capsys, folder)[1]["differs_in"] == {}
    folder = run(tmp_path / "new", [1002, 998, 1000], seeds=[7, 8, 9], config={**config, "algo.ent_coef": 0.1})
    assert found(capsys, folder)[1]["differs_in"] == {
        "algo.ent_coef": {"run": 0.1, "reference": 0.0, "kind": "setting"}
    }


def test_a_shorter_run_is_compared_as_far_as_it_goes(tmp_path, capsys, reference):
    folder = run(tmp_path / "new", [1002, 998, 1000], seeds=[7, 8, 9], count=21)
    _, facts = found(capsys, folder)
    assert (facts["verdict"], facts["compared_until"]) == ("matches", 20_000)
    assert "- compared up to step 20,000 of the reference's 50,000" in said(capsys, folder)[1]


def test_the_same_start_on_another_processor(tmp_path, capsys, reference):
    folder = run(tmp_path / "new", [1000, 1010, 990], record={"hardware": {"cpu": "A", "cpu_capability": "AVX2"}})
    card = json.loads(reference.with_suffix(".json").read_text())
    card["hardware"] = {"cpu": "B", "cpu_capability": "AVX512"}
    reference.with_suffix(".json").write_text(json.dumps(card))
    for file in folder.glob("seed_*/metrics.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows[10:]:
            row["eval/return_mean"] += 0.5
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, facts = found(capsys, folder)
    assert (facts["verdict"], facts["rows_equal"], facts["rows_shared"]) == ("matches", 30, 153)
    said_of = "same start, other arithmetic: processor A, there B; instructions of the processor AVX2, there AVX512"
    assert said_of in said(capsys, folder)[1]


def test_runs_beside_runs_files_beside_entries(tmp_path, capsys, reference):
    folder = run(tmp_path / "new", [500, 510, 490], seeds=[7, 8, 9])
    assert found(capsys, folder, "--reference", tmp_path / "old")[1]["verdict"] == "worse"
    file = tmp_path / "theirs.csv"
    lines = [f"{seed},{step},{end * step / 50_000}" for seed, end in enumerate((1000, 1004, 996)) for step in STEPS]
    file.write_text("\n".join(["seed,step,value", *lines]))
    code, facts = found(capsys, file, "--reference", "ppo_hopper")
    assert (code, facts["verdict"], facts["unknown"]) == (0, "matches", ["settings of the run"])
    assert found(capsys, folder, "--reference", file)[1]["verdict"] == "worse"
    file.write_text("\n".join(["run,frames,R", *lines]))
    columns = ["--step", "frames", "--value", "R", "--seed", "run"]
    assert found(capsys, file, "--reference", "ppo_hopper", *columns)[1]["verdict"] == "matches"


@pytest.mark.parametrize("place", ["ppo_hopper", "gallery/ppo_hopper.csv"])
def test_an_entry_is_known_by_its_name_and_by_its_file(tmp_path, capsys, reference, monkeypatch, place):
    publish(run(tmp_path / "other", [500, 510, 490], seeds=[7, 8, 9]), "other")
    monkeypatch.chdir(tmp_path)
    code, facts = found(capsys, "gallery/ppo_hopper-other.csv", "--reference", place)
    assert (code, facts["verdict"], facts["unknown"]) == (1, "worse", [])
    assert facts == found(capsys, "ppo_hopper-other", "--reference", place)[1]


def test_several_runs_are_seeds_of_one(tmp_path, capsys, reference):
    one = run(tmp_path / "one", [500], seeds=[7])
    two = run(tmp_path / "two", [510, 490], seeds=[8, 9])
    assert found(capsys, one)[1]["verdict"] == "unusual"
    code, facts = found(capsys, one, two)
    assert (code, facts["verdict"], facts["n"]) == (1, "worse", 3)
    code, _, err = said(capsys, one, run(tmp_path / "again", [1], seeds=[7]))
    assert (code, "has seed 7, which another one has too" in err) == (2, True)
    other = run(tmp_path / "other", [1], seeds=[11], config={"algo.lr": 1.0})
    code, _, err = said(capsys, one, other)
    assert code == 2
    assert "algo.lr is 1.0, in " in err


def test_mistakes_cost_one_line(tmp_path, capsys, reference):
    folder = run(tmp_path / "new", [500], seeds=[7])
    file = tmp_path / "x.csv"
    file.write_text("step,value\n1,2\n2,3\n")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").write_text("arms: {}")
    write_run(tmp_path / "begun", (0.0,))
    alone = run(tmp_path / "alone", [1], config={"env.name": "pond", "env.id": "Pond-v0"})
    for words, message in (
        ([folder, "--reference", "ppo_hoper"], "did you mean 'ppo_hopper'"),
        ([tmp_path / "nowhere"], "no such file or folder"),
        (["ppo_hoper"], "did you mean 'ppo_hopper'"),
        ([file], "name a --reference; there are ppo_hopper"),
        ([tmp_path / "study"], "is a study"),
        ([tmp_path / "begun"], "has no evaluation yet"),
        ([alone], "the gallery has no entry of ppo on pond"),
    ):
        code, out, err = said(capsys, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_a_run_ends_with_its_verdict(tmp_path, capsys, reference):
    folder = run(tmp_path / "runs" / "new", [500, 510, 490], seeds=[7, 8, 9])
    Folder.open(folder).refresh(draw=False)
    assert "**Verdict:** worse than ppo_hopper: its end is " in (folder / "summary.md").read_text()
    stored = json.loads((folder / "run.json").read_text())["verdict"]
    assert stored["verdict"] == "worse"
    assert main.main(["list", str(tmp_path / "runs")]) == 0
    assert "worse than ppo_hopper" in capsys.readouterr().out
    assert main.main(["list", str(tmp_path / "runs"), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["verdict"], listed["reference"]) == ("worse", "ppo_hopper")
    drawn = curves_file._figure(Run.read(folder), references.Entry.read(reference))
    main_axes = drawn.axes[0]
    assert main_axes.get_title() == "ppo on hopper: worse than ppo_hopper"
    labels = [text.get_text() for text in main_axes.get_legend().get_texts()]
    assert "gallery ppo_hopper: mean and 95 % prediction band, n = 5" in labels


def test_a_run_without_a_reference_has_no_verdict(tmp_path):
    folder = run(tmp_path / "new", [500])
    Folder.open(folder).refresh(draw=False)
    assert json.loads((folder / "run.json").read_text())["verdict"] is None
    assert "Verdict" not in (folder / "summary.md").read_text()


def test_a_broken_card_of_another_entry_disturbs_no_run(tmp_path, capsys, reference):
    (reference.parent / "ppo_hopper-a.csv").write_text("")
    (reference.parent / "ppo_hopper-b.csv").write_text("")
    (reference.parent / "ppo_hopper-b.json").write_text("{")
    folder = run(tmp_path / "new", [500, 510, 490], seeds=[7, 8, 9])
    assert found(capsys, folder)[1]["reference"] == "ppo_hopper"


def test_seeds_that_failed_are_left_out_and_counted(tmp_path, capsys, reference):
    folder = run(tmp_path / "new", [1002, 998, 3], seeds=[7, 8, 9])
    record = json.loads((folder / "run.json").read_text())
    record["seeds"]["9"]["status"] = "failed"
    (folder / "run.json").write_text(json.dumps(record))
    code, facts = found(capsys, folder)
    assert (code, facts["verdict"], facts["n"], facts["left_out"]) == (0, "matches", 2, 1)
    assert sides.of_run("x", Run.read(folder)).left_out == 1


def test_the_processor_is_described():
    facts = processor.facts()
    assert facts["cpu"]
    assert facts["cpu_capability"] in ("DEFAULT", "AVX2", "AVX512", "SVE256", "SVE128", "NO AVX", "Z VECTOR", "VSX")
    assert facts["bfloat16"] in (True, False, None)


def test_processors_are_read_from_what_the_system_says(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(
        "cpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Xeon\nflags\t\t: avx2 amx_bf16 avx512_bf16\n"
    )
    facts = processor.facts()
    assert (facts["cpu"], facts["cpu_family"], facts["cpu_model"], facts["bfloat16"]) == ("Xeon", "6", "143", True)
    (tmp_path / "cpuinfo").write_text("flags\t\t: avx2\n")
    assert processor.facts()["bfloat16"] is False
    (tmp_path / "cpuinfo").unlink()
    assert processor.facts()["bfloat16"] is None


@pytest.mark.parametrize("collected", [0, 5000])
def test_steps_that_no_environment_took_are_no_clock(collected, tmp_path, capsys):
    """Learning from data leaves env_steps where they were: its curve.csv is read by `step`, and compares with no env
    steps."""
    entry = publish(run(tmp_path / "old", [1000, 1010, 990], record={"clock": "updates"}))
    rows = [line.split(",") for line in entry.read_text().splitlines()]
    for row in rows[1:]:
        row[2] = "0" if row[1] == "0" else str(collected)
    table = "\n".join(map(",".join, rows))
    entry.write_text(table + "\n")
    file = tmp_path / "curve.csv"
    file.write_text(table + "\n")
    _, facts = found(capsys, file, "--reference", "ppo_hopper")
    assert (facts["verdict"], facts["compared_until"], facts["rows_equal"]) == ("identical", 50_000, 153)
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("global_step,return\n" + "".join(f"{step},{step / 50}\n" for step in STEPS))
    code, out, _ = said(capsys, theirs, "--reference", "ppo_hopper")
    assert (code, out.splitlines()[0]) == (3, "incomparable with ppo_hopper: counted in env_steps, there updates")
