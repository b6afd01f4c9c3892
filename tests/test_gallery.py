"""Gallery entries: what they hold, what is refused, how one is found."""

import json
import shutil

import pytest

from rlexp import gallery
from rlexp.config import names
from rlexp.errors import UserError
from tests.helpers import built
from tests.test_plot import write_run


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery, "GALLERY", tmp_path / "gallery")
    return tmp_path / "gallery"


def test_publish_writes_curve_card_and_picture(tmp_path, place):
    run = write_run(tmp_path / "run")
    assert gallery.publish(run) == place / "ppo_hopper.csv"
    assert (place / "ppo_hopper.csv").read_bytes() == (run / "curve.csv").read_bytes()
    assert (place / "ppo_hopper.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in place.iterdir()) == ["ppo_hopper.csv", "ppo_hopper.json", "ppo_hopper.png"]
    card = gallery.card(place / "ppo_hopper.csv")
    record = json.loads((run / "run.json").read_text())
    for key in ("command", "commit", "versions", "seconds", "clock", "eval", "seeds"):
        assert card[key] == record[key], key
    assert card["config"]["algo"]["lr"] == 3e-4


def test_a_changed_working_tree_is_said(tmp_path):
    run = write_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "dirty": True}))
    assert gallery.card(gallery.publish(run))["dirty"] is True


def test_failed_seeds_stay_in_the_entry(tmp_path):
    run = write_run(tmp_path / "run", (1.0, 0.4, 1.0), ["done", "failed", "done"])
    entry = gallery.publish(run)
    assert gallery.card(entry)["seeds"]["1"]["status"] == "failed"
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
        gallery.publish(run)
    assert not place.exists()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        gallery.publish(tmp_path)
    (tmp_path / "study.yaml").write_text("arms: {}")
    with pytest.raises(UserError, match="publish its arms"):
        gallery.publish(tmp_path)


def test_variants_stand_beside_each_other(tmp_path, place):
    run = write_run(tmp_path / "run")
    gallery.publish(run)
    assert gallery.publish(run, "fast") == place / "ppo_hopper-fast.csv"
    assert gallery.find(None, "ppo_hopper") == place / "ppo_hopper.csv"
    assert gallery.find("ppo_hopper-fast", "ppo_hopper") == place / "ppo_hopper-fast.csv"
    with pytest.raises(UserError, match="letters, digits"):
        gallery.publish(run, "../x")


def test_find(tmp_path, place):
    assert gallery.find(None, "ppo_hopper") is None
    with pytest.raises(UserError, match="the gallery is empty"):
        gallery.find("ppo_hoper", "ppo_hopper")
    gallery.publish(write_run(tmp_path / "run"))
    with pytest.raises(UserError, match=r"reference=ppo_hoper: .* did you mean 'ppo_hopper'"):
        gallery.find("ppo_hoper", "ppo_hopper")
    with pytest.raises(UserError, match="there are ppo_hopper"):
        gallery.find("zzz", "ppo_hopper")


@pytest.mark.parametrize("words", [["algo=vpg", "env=cartpole"], ["env=gym", "env.id=MountainCar-v0"], ["env=sphere"]])
def test_the_name_of_an_entry_is_the_name_of_the_run(words):
    run = built(*words)
    assert "_".join(names(run.plain)) == run.name


def test_entries_that_are_shipped_are_whole():
    shipped = gallery.Path(gallery.__file__).parent.parent / "gallery"
    for csv in shipped.glob("*.csv"):
        card = gallery.card(csv)
        assert csv.with_suffix(".png").is_file() or "source" in card, csv
        seeds = {line.split(",")[0] for line in csv.read_text().splitlines()[1:]}
        assert seeds <= set(card["seeds"]), csv
        assert card.get("commit") or card["source"], csv
        assert card["name"] == csv.stem


def test_publishing_again_replaces_the_entry_only_when_asked(tmp_path, place):
    gallery.publish(write_run(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run")
    again = write_run(tmp_path / "run", (1.0,))
    with pytest.raises(UserError, match="is there already"):
        gallery.publish(again)
    gallery.publish(again, replace=True)
    assert list(gallery.card(place / "ppo_hopper.csv")["seeds"]) == ["0"]
