"""Gallery entries: what they hold, what is refused, how one is found."""

import csv
import itertools
import json
import shutil

import pytest

from rlexp.report.naming import names
from rlexp.report.publish import publish
from rlexp.report.references import card, find
from rlexp.util import paths, stats
from rlexp.util.errors import UserError
from tests.helpers import ROOT, built
from tests.test_plot import write_run

SHIPPED = sorted((ROOT / "gallery").glob("*.csv"))


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "GALLERY", tmp_path / "gallery")
    return tmp_path / "gallery"


def test_publish_writes_curve_card_and_picture(tmp_path, place):
    run = write_run(tmp_path / "run")
    assert publish(run) == place / "ppo_hopper.csv"
    assert (place / "ppo_hopper.csv").read_bytes() == (run / "curve.csv").read_bytes()
    assert (place / "ppo_hopper.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in place.iterdir()) == ["ppo_hopper.csv", "ppo_hopper.json", "ppo_hopper.png"]
    about = card(place / "ppo_hopper.csv")
    record = json.loads((run / "run.json").read_text())
    for key in ("command", "commit", "versions", "seconds", "clock", "eval", "seeds"):
        assert about[key] == record[key], key
    assert about["config"]["algo"]["lr"] == 3e-4


def test_a_changed_working_tree_is_said(tmp_path):
    run = write_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "dirty": True}))
    assert card(publish(run))["dirty"] is True


def test_failed_seeds_stay_in_the_entry(tmp_path):
    run = write_run(tmp_path / "run", (1.0, 0.4, 1.0), ["done", "failed", "done"])
    entry = publish(run)
    assert card(entry)["seeds"]["1"]["status"] == "failed"
    assert "\n1,0," in entry.read_text()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (["done", "interrupted"], "seed 1 is interrupted"),
        (["running", "waiting"], "seed 0 is running, seed 1 is waiting"),
        (["failed", "failed"], "every seed failed"),
    ],
)
def test_unfinished_runs_are_refused(tmp_path, place, status, words):
    run = write_run(tmp_path / "run", (0.5, 0.5), status)
    with pytest.raises(UserError, match=words):
        publish(run)
    assert not place.exists()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        publish(tmp_path)
    (tmp_path / "study.yaml").write_text("arms: {}")
    with pytest.raises(UserError, match="publish its arms"):
        publish(tmp_path)


def test_variants_stand_beside_each_other(tmp_path, place):
    run = write_run(tmp_path / "run")
    publish(run)
    assert publish(run, "fast") == place / "ppo_hopper-fast.csv"
    assert find(None, "ppo_hopper") == place / "ppo_hopper.csv"
    assert find("ppo_hopper-fast", "ppo_hopper") == place / "ppo_hopper-fast.csv"
    with pytest.raises(UserError, match="letters, digits"):
        publish(run, "../x")


def test_find(tmp_path, place):
    assert find(None, "ppo_hopper") is None
    with pytest.raises(UserError, match="the gallery is empty"):
        find("ppo_hoper", "ppo_hopper")
    publish(write_run(tmp_path / "run"))
    with pytest.raises(UserError, match=r"reference=ppo_hoper: .* did you mean 'ppo_hopper'"):
        find("ppo_hoper", "ppo_hopper")
    with pytest.raises(UserError, match="there are ppo_hopper"):
        find("zzz", "ppo_hopper")


@pytest.mark.parametrize("words", [["algo=vpg", "env=cartpole"], ["env=gym", "env.id=MountainCar-v0"], ["env=sphere"]])
def test_the_name_of_an_entry_is_the_name_of_the_run(words):
    run = built(*words)
    assert "_".join(names(run.plain)) == run.name


def test_entries_that_are_shipped_are_whole():
    assert len(SHIPPED) > 40
    for file in SHIPPED:
        about = card(file)
        assert file.with_suffix(".png").is_file() or "source" in about, file
        seeds = {line.split(",")[0] for line in file.read_text().splitlines()[1:]}
        assert seeds <= set(about["seeds"]), file
        assert about.get("commit") or about["source"], file
        assert about["name"] == file.stem


@pytest.mark.parametrize("file", [file for file in SHIPPED if "source" not in card(file)], ids=lambda file: file.stem)
def test_a_card_tells_what_its_curve_and_its_seeds_do(file):
    """Its scores are those of the last evaluations, its means those of its seeds."""
    about = card(file)
    with file.open(newline="", encoding="utf-8") as lines:
        last = {row["seed"]: row for row in csv.DictReader(lines)}
    done = {seed: one["final"] for seed, one in about["seeds"].items() if one["status"] == "done"}
    assert about["final"]["n"] == len(done) > 0
    for seed, final in done.items():
        shared = set(final) & set(last[seed])
        assert "return_mean" in shared
        for name in shared:
            assert final[name] == pytest.approx(float(last[seed][name])), name
    played = about.get("played", {})
    means = [(done.values(), about["final"])]
    for kind in {"mean", "sampled"} & set(played):
        assert set(played[kind]["seeds"]) == set(done)
        means.append((played[kind]["seeds"].values(), played[kind]["over_seeds"]))
    for seeds, over in means:
        mean, half = stats.t_interval([one["return_mean"] for one in seeds])
        assert over["return_mean"]["mean"] == pytest.approx(mean)
        assert len(done) == 1 or over["return_mean"]["t95"] == pytest.approx(half, abs=1e-6)


def table(head: str) -> list[list[str]]:
    """The rows of the table of gallery/README.md whose head begins so; a list of cells each."""
    page = (ROOT / "gallery" / "README.md").read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(page) if line.startswith(head))
    rows = itertools.takewhile(lambda line: line.startswith("|"), page[begin + 2 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


def test_the_pages_table_of_a_gpus_runs_is_that_of_their_cards():
    rows = table("| | data digest | of each seed")
    assert len(rows) == 9
    for title, digest, each, mean in rows:
        env, kind = title.lower().split(", ")
        about = card(ROOT / "gallery" / f"dt_{env}{'' if kind == 'medium' else f'-{kind}'}-gpu.csv")
        done = [one["final"]["score"] for one in about["seeds"].values() if one["status"] == "done"]
        failed = ["one failed"] * (len(about["seeds"]) - len(done))
        assert digest == about["inputs"]["buffer"]["digest"]
        assert each == ", ".join([*(f"{value:.1f}" for value in done), *failed])
        assert mean == "{:.1f} ± {:.1f}".format(*stats.t_interval(done))


def test_the_pages_table_of_the_lesson_is_that_of_its_cards():
    entries = ("vpg_lineworld-lesson-vanilla", "vpg_lineworld-lesson-advantage", "vpg_lineworld-lesson-advantage-fast")
    rows = table("| arm | last evaluation")
    for (_, last, _, ends, fresh, _), name in zip(rows, (*entries, "ppo_lineworld-lesson"), strict=True):
        about = card(ROOT / "gallery" / f"{name}.csv")
        percent = [100 * one["final"]["success_rate"] for one in about["seeds"].values()]
        played = [100 * one["success_rate"] for one in about["played"]["sampled"]["seeds"].values()]
        assert float(last.split()[0]) == pytest.approx(sum(percent) / len(percent), abs=0.51)
        assert ends == f"{min(percent):.0f}, {max(percent):.0f} %"
        assert fresh == "{:.0f} ± {:.0f} %".format(*stats.t_interval(played))


def test_publishing_again_replaces_the_entry_only_when_asked(tmp_path, place):
    publish(write_run(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run")
    again = write_run(tmp_path / "run", (1.0,))
    with pytest.raises(UserError, match="is there already"):
        publish(again)
    publish(again, replace=True)
    assert list(card(place / "ppo_hopper.csv")["seeds"]) == ["0"]
