"""The table of the hand-outs: that its commands can be run, its evidence is there, its page is up to date."""

import argparse
import json
import math
import shlex
import sys

import pytest

from rlexp.cli import launch, main
from rlexp.report import checked, course_checks, courses
from rlexp.report.courses import Bar, Part
from rlexp.report.courses_page import markdown
from tests.helpers import ROOT, STUDIES, built

PARTS = courses.parts()
COMMANDS = [command for part in PARTS.values() for command in (part.command, *part.then)]


def said(capsys, *words: str) -> tuple[int, str, str]:
    code = main.main(["courses", *words])
    return code, *capsys.readouterr()


def test_the_page_is_made_of_the_table():
    """After a change: rlexp courses --markdown > COURSES.md."""
    assert (ROOT / "COURSES.md").read_text(encoding="utf-8") == markdown(PARTS.values())


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_command_can_be_typed(command):
    program, *words = shlex.split(command)
    if program == "rlexp":
        parser = main.Parser(prog="rlexp")
        commands = parser.add_subparsers(dest="command", required=True)
        for each in main.COMMANDS:
            each.add(commands)
        assert isinstance(parser.parse_args(words), argparse.Namespace)
        return
    script, *words = words
    assert (program, script) in {("python", "main.py"), ("python", "main_mp.py")}
    if words[0] == "resume=RUN":
        return
    studies = [word.removeprefix("+study=") for word in words if word.startswith("+study=")]
    if studies:
        assert studies[0] in STUDIES  # test_every_study_can_begin has them
        return
    absent = ("algo.preferences=", "buffer.path=")  # files that the part's own first command writes
    assert built(*(word for word in words if not word.startswith(absent))).seeds


def test_the_newest_checkpoint_that_is_handed_in_is_that_of_the_end():
    """A reward is learned after the last novice: one that was saved with it would have had a single pass."""
    _, _, *words = shlex.split(PARTS["rlhf-reward"].command)
    train = built(*words).train
    assert train.budget % train.save_every == 0


@pytest.mark.parametrize("part", PARTS.values(), ids=lambda part: part.name)
def test_every_evidence_is_there(part: Part):
    assert part.hand_in
    for bar in part.bars:
        if bar.evidence:
            assert all(found.verdict != "missing" for found in courses.judged(bar)), bar
        assert all(one.get("check", "pg-loss") in course_checks.CHECKS for one in bar.evidence)


@pytest.mark.parametrize(
    ("above", "below", "mean", "half", "word"),
    [
        (210, None, 220, 5, "met"),
        (210, None, 220, 11, "undecided"),
        (210, None, 200, 5, "missed"),
        (210, None, 300, math.nan, "undecided"),
        (165, 195, 184, 2, "met"),
        (165, 195, 184, 12, "undecided"),
        (165, 195, 220, 5, "missed"),
        (165, 195, 150, 5, "missed"),
        (None, None, 1, 1, "no bar"),
    ],
)
def test_the_rule(above, below, mean, half, word):
    assert courses.verdict(Bar(says="", evidence=[], above=above, below=below), mean, half) == word


def test_few_seeds_meet_no_bar_but_may_miss_one():
    bar = Bar(says="", evidence=[], above=210)
    assert courses.verdict(bar, 220, 5, enough=False) == "undecided"
    assert courses.verdict(bar, 200, 5, enough=False) == "missed"
    found = {one.evidence: (one.n, one.verdict) for one in courses.judged(PARTS["dt-halfcheetah"].bars[0])}
    assert found["dt_halfcheetah"] == (3, "undecided")  # its interval lies above the bar, as the other's does
    assert found["dt_halfcheetah-gpu"] == (5, "met")


def test_a_number_is_that_of_the_gallery():
    card = json.loads((ROOT / "gallery" / "dpo_swimmer.json").read_text())
    (found,) = courses.judged(PARTS["dpo-offline"].bars[0])
    assert (found.n, found.episodes, found.actions) == (5, 10, "sampled")
    assert found.mean == pytest.approx(card["final"]["return_mean"]["mean"])
    assert found.half == pytest.approx(card["final"]["return_mean"]["t95"])


def test_evidence_that_is_not_there_is_said():
    absent = [{"entry": "nowhere"}, {"policy": "nobody", "actions": "mean"}]
    bar = Bar(says="", metric="return_mean", above=1, evidence=absent)
    assert [found.verdict for found in courses.judged(bar)] == ["missing", "missing"]
    assert [found.verdict for found in courses.judged(Bar(says="", evidence=[]))] == ["missing"]


def test_the_gain_over_novices_is_of_each_seed():
    bar = PARTS["rlhf"].bars[1]
    (found,) = courses.judged(bar)
    assert (found.n, found.verdict) == (5, "met")
    (alone,) = courses.judged(Bar(says="", metric=bar.metric, evidence=bar.evidence))
    assert alone.mean - 60 < found.mean < alone.mean - 20


def test_checks_say_expected_and_found(capsys, monkeypatch):
    code, out, _ = said(capsys, "checks")
    assert (code, out.count("| yes |"), "NO" in out) == (0, 12, False)
    for name, check in course_checks.CHECKS.items():  # after a change: rlexp courses checks --keep
        kept = [(one.what, one.expected, one.agrees) for one in checked.kept(name)]
        if name != "cmaes-fixed":  # of a thousand episodes each
            assert kept == [(one.what, one.expected, one.agrees) for one in check()]
    monkeypatch.setattr(course_checks, "LOSS", 0.4)
    monkeypatch.setitem(course_checks.RETURNS, 0, 3.0)
    code, out, _ = said(capsys, "checks", "pg-returns", "--json")
    assert code == 1
    assert [one["agrees"] for one in json.loads(out)].count(False) == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dpo-ofline"], "dpo-ofline: no such part; did you mean 'dpo-offline'?\n"),
        (["zzz"], "zzz: no such part; `rlexp courses` lists them\n"),
        (["--hand-out", "dpp"], "did you mean 'dpo'? (there are dpo, imitation, rlhf, dt, pg)"),
        (["dpo-offline", "dagger"], "one part at a time"),
        (["checks", "pg-los"], "pg-los: no such check; did you mean 'pg-loss'?"),
        (["--run"], "name the part to run"),
        (["checks", "pg-loss", "--keep"], "--keep: takes all checks"),
        (["pg-loss", "--keep"], "--keep: goes with"),
        (["rlhf-cloning", "--run"], "needs a run"),
    ],
)
def test_mistakes_cost_one_line(words, line, capsys):
    code, _, err = said(capsys, *words)
    assert (code, line in err, err.count("\n")) == (2, True, 1), err


def test_run_is_main(monkeypatch, capsys):
    started = []

    def record(engine: str) -> int:
        started.append((engine, sys.argv))
        return 0

    monkeypatch.setattr(launch, "main", record)
    for words in (["cmaes_sphere", "--run", "train.budget=1", "-m"], ["pg-lesson", "--run"]):
        monkeypatch.setattr(sys, "argv", ["rlexp"])
        assert said(capsys, *words)[0] == 0
    assert started == [
        ("serial", ["rlexp train", "+experiment=cmaes_sphere", "train.budget=1", "-m"]),
        ("processes", ["rlexp train", "+study=lineworld_lesson"]),
    ]


def test_one_part_and_one_hand_out(capsys):
    _, out, _ = said(capsys, "dpo_offline")
    assert "python main.py +experiment=dpo_offline" in out
    assert "dpo_swimmer: 5 seeds, 10 episodes each, sampled actions" in out
    (part,) = json.loads(said(capsys, "dpo-offline", "--json")[1])
    assert part["bars"][0]["found"][0]["verdict"] == "met"
    _, out, _ = said(capsys, "--hand-out", "rlhf")
    assert out.startswith("RLHF on CartPole\n")
    assert "Swimmer" not in out
