"""The `rlexp` command on a small run."""

import json

import pytest

import rlexp
from rlexp.cli import main
from rlexp.experiment.work import Work
from rlexp.policies.files import load_policy
from rlexp.report import ship
from rlexp.report.references import find
from rlexp.rollout import score
from rlexp.util import paths
from tests.helpers import command, toy, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two seeds, made by main.py's own parts in this process."""
    from rlexp.engines.base import one_by_one
    from rlexp.engines.serial import Serial
    from rlexp.experiment.folder import Folder
    from rlexp.experiment.recorder import Recorder

    place = tmp_path_factory.mktemp("runs") / "2026-01-31" / "12-00-00_ppo_lineworld"
    place.mkdir(parents=True)
    config = toy("ppo", "train.budget=4096", "train.snapshot_every=2048", "seeds=[0,1]")
    work = Work(place, [(Folder(place, config.plain, "env_steps"), config)])
    work.begin()
    recorder = Recorder(work.folders())
    Serial(Serial.Config()).run(one_by_one(work.jobs()), recorder)
    work.close(whole=True)
    return place


def said(capsys, *words):
    code = main.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_eval_scores_each_seed_and_their_mean(run, capsys):
    code, out, _ = said(capsys, "eval", run, "--episodes", 20, "--json")
    result = json.loads(out)
    assert (code, result["episodes"], result["actions"], len(result["policies"])) == (0, 20, "mean", 2)
    totals = [policy["return_mean"] for policy in result["policies"]]
    assert result["mean"] == pytest.approx(sum(totals) / 2)
    assert "torch" in result["versions"]
    _, again, _ = said(capsys, "eval", run, "--episodes", 20, "--json")
    assert json.loads(again)["policies"] == result["policies"]
    _, sampled, _ = said(capsys, "eval", run, "--episodes", 20, "--json", "--sampled")
    assert json.loads(sampled)["policies"][0]["return_mean"] != totals[0]
    assert "mean actions, n = 20" in said(capsys, "eval", run, "--episodes", 20)[1]


def test_eval_counts_episodes_at_a_bar(run, capsys):
    _, out, _ = said(capsys, "eval", run / "seed_0", "--episodes", 20, "--bar", -1.5, "--json")
    (found,) = json.loads(out)["policies"]
    played = score.play(load_policy(run / "seed_0"), 20)
    count = sum(episode.total >= -1.5 for episode in played.episodes)
    assert found["share_at_bar"] == count / 20
    assert found["wilson95"][0] < count / 20 < found["wilson95"][1]
    line = said(capsys, "eval", run / "seed_0", "--episodes", 20, "--bar", -1.5)[1]
    assert f", ≥ -1.5 in {count / 20:.0%} (Wilson" in line


def test_many_episodes_are_played_in_rounds_of_which_none_repeats_another(run, monkeypatch):
    saved = load_policy(run / "seed_0")
    whole = score.play(saved, 7)
    monkeypatch.setattr(score, "SIDE_BY_SIDE", 7)
    rounds = score.play(saved, 18)
    seeds = [episode.seed for episode in rounds.episodes]
    assert len(seeds) == len(set(seeds)) == 18
    assert [(e.seed, e.total) for e in rounds.episodes[:7]] == [(e.seed, e.total) for e in whole.episodes]


def test_eval_takes_checkpoints_and_seeds_and_best(run, capsys):
    for place in (run / "seed_1", run / "seed_1" / "checkpoints" / "best.safetensors"):
        code, out, _ = said(capsys, "eval", place, "--episodes", 2, "--best", "--json")
        assert code == 0
        assert json.loads(out)["policies"][0]["policy"].endswith("seed_1/checkpoints/best.safetensors")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["eval", "nowhere"], "nowhere: no such"),
        (["eval", "{run}", "--episodes", "0"], "--episodes: must be ≥ 1"),
        (["eval", "{run}/curve.csv"], "cannot be read as a checkpoint"),
        (["eval", "{run}/seed_0/videos"], "no such"),
        (["list", "nowhere"], "nowhere: no such folder"),
        (["lst"], "rlexp lst: no such command; did you mean 'list'? (there are train, tune, eval, check, list,"),
        (["eval", "{run}", "--bset"], "--bset: rlexp eval knows no such option; did you mean '--best'?"),
        (["reach", "{run}", "high"], "rlexp reach: bar: invalid float value: 'high'"),
        (["curves", "{run}", "--out", "/proc/x.png"], "/proc/"),
        (["publish", "nowhere"], "no run folder"),
        (["publish", "{run}", "--episodes", "-1"], "--episodes: must be ≥ 0"),
        (["reach", "{run}", "1", "--metric", "eval/return_meen"], "did you mean 'eval/return_mean'"),
    ],
)
def test_mistakes_cost_one_line(words, line, run, capsys):
    code, _, err = said(capsys, *[word.format(run=run) for word in words])
    assert (code, line in err, err.count("\n")) == (2, True, 1), err


def test_list(run, capsys):
    (listed,) = json.loads(said(capsys, "list", run.parent.parent, "--json")[1])
    assert (listed["seeds"], listed["done"], listed["failed"]) == (2, 2, 0)
    assert run.name in said(capsys, "list", run.parent.parent)[1]


def test_reach(run, capsys):
    result = json.loads(said(capsys, "reach", run, -100, "--json")[1])
    assert (result["share"], result["first"]) == (1.0, {"seed_0": 0, "seed_1": 0})
    assert "not reached" in said(capsys, "reach", run, 100)[1]


def test_a_shipped_policy_has_a_card_and_is_found_by_name(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "POLICIES", tmp_path)
    assert said(capsys, "publish", run, "--policy", "walker", "--seed", 1)[0] == 0
    assert "is there already" in said(capsys, "publish", run, "--policy", "walker", "--seed", 1)[2]
    assert said(capsys, "publish", run, "--policy", "walker", "--seed", 1, "--replace")[0] == 0
    card = json.loads((tmp_path / "walker.json").read_text())
    assert card["seed"] == 1
    assert {"mean", "sampled"} == set(card["scores"])
    ended = json.loads((run / "run.json").read_text())["seeds"]
    assert card["seeds"] == {seed: facts["final"]["return_mean"] for seed, facts in ended.items()}
    assert rlexp.load_policy("walker").card["seed"] == 1
    which = f"the final policy of seed 1 at step {card['step']:,}"
    assert said(capsys, "eval", "walker", "--episodes", 1)[1].splitlines()[1].strip().startswith(which)
    for ends, words in (
        ((1.0, 2.0), ", the best of its run's 2 seeds by evaluation: 1.0, 2.0"),
        ((3.0, 2.0), "; its run's 2 seeds ended at 3.0, 2.0"),
    ):
        changed = {**card, "seeds": dict(zip("01", ends, strict=True))}
        (tmp_path / "walker.json").write_text(json.dumps(changed))
        assert ship.chosen(tmp_path / "walker.safetensors") == which + words
    code, _, err = said(capsys, "eval", "walkr")
    assert (code, "did you mean 'walker'" in err) == (2, True)


def test_snapshots_are_shipped_alone_or_as_a_ladder(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "POLICIES", tmp_path)
    assert said(capsys, "publish", run, "--policy", "half", "--seed", 1, "--step", 2048)[0] == 0
    assert (rlexp.load_policy("half").card["step"], rlexp.load_policy("half").card["seed"]) == (2048, 1)
    assert said(capsys, "publish", run, "--ladder", "rungs", "--step", 4096)[0] == 0
    card = json.loads((tmp_path / "rungs" / "card.json").read_text())
    assert [rung["step"] for rung in card["rungs"]] == [0, 2048]
    assert sorted(p.name for p in (tmp_path / "rungs").glob("*.safetensors")) == [
        "policy_000000000000.safetensors",
        "policy_000000002048.safetensors",
    ]
    code, _, err = said(capsys, "publish", run, "--policy", "x", "--step", 2047)
    assert (code, "did you mean '2048'" in err) == (2, True)
    assert said(capsys, "publish", run, "--ladder", "x", "--every", 4096, "--step", 4096)[0] == 2


def test_publish_makes_a_reference(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "GALLERY", tmp_path)
    assert said(capsys, "publish", run, "--variant", "toy", "--episodes", 3)[0] == 0
    played = json.loads((tmp_path / "ppo_lineworld-toy.json").read_text())["played"]
    for kind, option in (("mean", []), ("sampled", ["--sampled"])):
        again = json.loads(said(capsys, "eval", run, "--episodes", 3, "--json", *option)[1])
        assert played[kind]["over_seeds"]["return_mean"] == {"mean": again["mean"], "t95": again["t95"]}
    assert {p.name for p in tmp_path.iterdir()} == {f"ppo_lineworld-toy.{end}" for end in ("csv", "json", "png")}
    assert find("ppo_lineworld-toy", "x") == tmp_path / "ppo_lineworld-toy.csv"


def test_doctor_says_what_works(capsys):
    code, out, _ = said(capsys, "doctor", "--json")
    checks = {check["what"]: check for check in json.loads(out)}
    assert code == int(any(check["required"] and not check["ok"] for check in checks.values()))
    assert {"GPU", "display", "Box2D", "EnvPool", "films of MuJoCo", "data cache", "processor"} <= set(checks)


def test_a_notebook_loads_acts_and_films(run, tmp_path):
    import gymnasium as gym

    saved = rlexp.load_policy(run)
    env = gym.make(saved.env.id, **saved.env.kwargs)
    obs, _ = env.reset(seed=0)
    assert env.action_space.contains(saved.policy.act(obs[None])[0])
    assert rlexp.evaluate(saved, episodes=5)["return_mean"] <= 0
    assert rlexp.record(saved, tmp_path / "episode.mp4").stat().st_size > 500


def test_weights_can_start_from_a_run(run, tmp_path):
    started = toy("ppo", f"policy.init={run}", "train.budget=2048", "algo.lr=1e-12")
    train(started, tmp_path)
    assert rlexp.evaluate(rlexp.load_policy(tmp_path)) == pytest.approx(
        rlexp.evaluate(rlexp.load_policy(run)), rel=1e-3
    )
    done = command("main.py", f"policy.init={run}", "env=cartpole", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "another network than this run's policy: " in done.stderr


def test_the_summary_and_the_end_of_a_run_say_its_losses(run):
    from rlexp.experiment.folder import Folder

    folder = Folder.open(run)
    text = (run / "summary.md").read_text()
    assert "Losses at the end (mean of the last 5 % of the steps):\n- policy: " in text
    assert Work(run, [(folder, None)]).report() == text
