"""Commands and snippets of README and gallery/README: composed and checked as if typed, or run, cut short."""

import os
import re
import shlex

import numpy as np
import pytest

import rlexp
from rlexp.cli import main as commands
from rlexp.experiment import former_names, overrides
from rlexp.experiment.compose import compose, take
from rlexp.experiment.config import build
from rlexp.report import results
from tests.helpers import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
GALLERY = (ROOT / "gallery" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
# Run by tests of their own: they need what is outside of this repository, or a run that is there.
ELSEWHERE = ("algo=climb", "logger=", "resume=", "+study=", "--help", "-m ", "<name>")
MISTAKE = "python main.py lr=1e-3"  # shown for what is answered


def typed() -> list[str]:
    """Trainings, without their comments: of the code blocks, and of text between backticks."""
    lines = [line.split("  #")[0].strip() for _, block in BLOCKS for line in block.splitlines()]
    quoted = re.findall(r"`((?:python main|rlexp train)[^`]*)`", README + GALLERY)
    every = [" ".join(line.split()) for line in [*lines, *quoted]]
    programs = ("python main.py", "python main_mp.py", "rlexp train")
    found = {line for line in every if line.startswith(programs) and line not in ("python main.py", "rlexp train")}
    return sorted(line for line in found - {MISTAKE} if not any(word in line for word in ELSEWHERE))


def test_there_are_commands():
    assert len(typed()) > 15


@pytest.mark.parametrize("line", typed())
def test_a_training_is_what_can_be_typed(line):
    words = shlex.split(re.sub(r"\bENV\b", "hopper", line))[2:]
    run = build(compose(former_names.translated(take(overrides.in_lists(words)))))
    assert run.seeds


def synopses() -> list[str]:
    """Lines `rlexp COMMAND ...` of the code blocks."""
    lines = [line.split("  #")[0].strip() for _, block in BLOCKS for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith("rlexp ") and not line.startswith("rlexp train")})


@pytest.mark.parametrize("line", synopses())
def test_a_synopsis_names_a_command_and_options_that_it_has(line, capsys):
    name = line.split()[1]
    with pytest.raises(SystemExit) as ended:
        commands.main([name, "--help"])
    assert ended.value.code == 0
    known = capsys.readouterr().out
    for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line):
        assert re.search(rf"(?<![\w-]){option}\b", known), f"{name} has no {option}"


def benchmarks() -> list[str]:
    """`python benchmarks/SCRIPT ...` of all pages, in code blocks and in text."""
    pages = (ROOT / name for name in ("CONTRIBUTING.md", "benchmarks/README.md", "gallery/verdict.md"))
    text = "\n".join([README, GALLERY, *(page.read_text(encoding="utf-8") for page in pages)])
    found = re.findall(r"`python (benchmarks/[^`]*)`", text) + re.findall(
        r"^python (benchmarks/.*)$", text, re.MULTILINE
    )
    return sorted({" ".join(line.split()) for line in found})


def test_commands_of_benchmarks_name_scripts_and_options_that_are_there():
    assert len(benchmarks()) > 20
    for line in benchmarks():
        script, *words = shlex.split(line)
        source = (ROOT / script).read_text(encoding="utf-8")
        for word in words:
            assert not word.startswith("--") or f'"{word}"' in source, f"{script} has no {word}"


def test_the_snippet_for_notebooks(tmp_path, monkeypatch):
    (snippet,) = [block for language, block in BLOCKS if language == "python" and "rlexp.train(" in block]
    monkeypatch.chdir(tmp_path)
    train = rlexp.train
    monkeypatch.setattr(rlexp, "train", lambda *words, **options: train(*words, "train.budget=2048", **options))
    names = {"obs": np.zeros(4, np.float32), "reward": 1.0}
    exec(snippet, names)
    assert names["run"].folder.is_dir()
    assert len(names["steps"]) == len(names["returns"]) > 1
    assert names["action"] in (0, 1)
    assert os.path.getsize(tmp_path / "episode.mp4") > 1000


def test_the_table_of_results_is_made_from_the_cards():
    """After a change: the output of `rlexp results --markdown` between the two marks."""
    table = README.split("<!-- results -->\n")[1].split("\n<!-- /results -->")[0]
    assert table == results.markdown(results.results())


def test_pictures_that_are_shown_are_there_and_small():
    shown = {place: re.findall(r"!\[[^]]*\]\(([^)]+)\)", text) for place, text in (("", README), ("gallery", GALLERY))}
    assert min(map(len, shown.values())) >= 3
    for place, names in shown.items():
        for name in names:
            assert (ROOT / place / name).stat().st_size < 1_000_000, name
