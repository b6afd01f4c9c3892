"""The generator: the same data whoever plays them, true transitions, and nothing left of what was interrupted."""

import multiprocessing
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlexp.datasets import generate, recipes, shards
from rlexp.datasets.recipes import Share
from rlexp.engines.processes import Processes
from rlexp.envs.make import describe
from rlexp.experiment.forecast import data_to_make, training
from rlexp.policies.files import load_policy
from rlexp.util import paths
from rlexp.util.errors import UserError
from tests.datasets import HOPPER, LINE, asked, names, play, policy_file
from tests.helpers import ROOT, Unsaved, built
from tests.test_dataset import same


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "STEPS", 100)


def test_the_data_do_not_depend_on_the_number_of_processes(place, small_shards):
    files = [place / "policies" / name for name in ("good.safetensors", "better.safetensors")]
    work = [Share(files[0], 1990, None, True), Share(files[1], 50, None, True), Share(files[0], None, 70, False)]
    alone = play(*work)
    assert same(alone, play(*work, processes=3))
    assert same(alone, play(*work))
    assert not same(alone, play(*work, seed=4))
    assert len(alone) == 1990 + 50 + 70 * 20


def test_whoever_finishes_first_changes_nothing(place, small_shards):
    plan = generate.Plan(LINE, [Share(place / "policies" / "good.safetensors", 1500, None, True)], 0)
    jobs = [plan.next() for _ in range(3)]
    for job in reversed(jobs):
        plan.add(job, shards.play_shard(job))
    while job := plan.next():
        plan.add(job, shards.play_shard(job))
    assert same(plan.result("x")[0], play(plan.shares[0], seed=0))


def test_no_more_shards_than_needed(place, small_shards):
    plan = generate.Plan(LINE, [Share(place / "policies" / "good.safetensors", 900, None, True)], 0)
    played = [plan.add(job, shards.play_shard(job)) for job, _ in zip(iter(plan.next, None), range(9), strict=False)]
    assert len(played) == 3  # of 16 episodes of 20 steps


def test_steps_are_exact_and_only_the_last_episode_is_cut(place):
    share = Share(place / "policies" / "good.safetensors", 130, None, True)
    data = play(share)
    assert data.length_E.tolist() == [20] * 6 + [10]
    assert data.terminated_E.tolist() == [True] * 6 + [False]
    longer = play(Share(share.path, 140, None, True))
    assert np.array_equal(data.final_obs_EO[-1], longer.obs_NO[130])
    assert np.array_equal(data.obs_NO, longer.obs_NO[:130])
    assert play(Share(share.path, 140, None, True)).terminated_E.all()


def test_transitions_are_the_environments(place):
    """Observation, action, reward and what followed belong to the same step, in every episode."""
    data = play(Share(place / "policies" / "good.safetensors", None, 40, True))
    assert data.length_E.tolist() == [20] * 40
    following = np.roll(data.obs_NO, -1, 0)
    following[data.start_E + 19] = data.final_obs_EO
    target, position = (np.rint((data.obs_NO + 1) * 5)).T
    after = np.clip(position + np.array([0, 1, -1])[data.action], 0, 10)
    assert np.array_equal(np.rint((following + 1) * 5), np.stack([target, after], 1))
    assert data.reward_N == pytest.approx(-np.abs(after - target) / 10)
    starts = data.obs_NO[data.start_E]
    assert len(np.unique(starts, axis=0)) > 15  # every episode begins anew


def test_actions_are_stored_as_executed(place):
    path = policy_file(place / "policies" / "hop.safetensors", HOPPER)
    data = play(Share(path, 300, None, True), env=HOPPER)
    data.check(describe(HOPPER))
    assert (np.abs(data.action) == 1).any()  # a standard normal's tails, clipped
    assert data.length_E.min() > 1
    means = play(Share(path, 300, None, False), env=HOPPER)
    saved = load_policy(path).policy
    assert means.action == pytest.approx(saved.act(means.obs_NO), abs=1e-5)


class Clockwork(Unsaved):
    """Acts by a count of its own, and checks that it is used as the contract says."""

    def start(self, batch, rng):
        self.batch, self.t, self.seen, self.draw = batch, 0, 0, int(rng.integers(3))

    def act(self, obs_BO):
        assert len(obs_BO) == self.batch
        assert self.seen == self.t
        self.t += 1
        return np.full(self.batch, (self.t + self.draw) % 3)

    def observe(self, reward_B):
        assert len(reward_B) == self.batch
        self.seen += 1


def test_policies_with_a_memory_begin_each_episode_anew(place, monkeypatch):
    monkeypatch.setattr(shards, "loaded", lambda share: SimpleNamespace(policy=Clockwork()))
    data = play(Share(place / "policies" / "good.safetensors", None, 40, False))
    action_ET = data.action.reshape(40, 20)
    assert np.array_equal(action_ET, (action_ET[:, :1] + np.arange(20)) % 3)
    assert len(set(action_ET[::16, 0])) > 1  # and each round draws anew


def test_episodes_of_every_length_are_kept(place, monkeypatch):
    """A shard that stopped at its first so many steps would prefer short episodes."""
    cartpole = built("env=cartpole").env

    class Fair(Unsaved):
        def start(self, batch, rng):
            self.batch, self.rng = batch, rng

        def act(self, obs_BO):
            return self.rng.integers(2, size=self.batch)

    monkeypatch.setattr(shards, "loaded", lambda share: SimpleNamespace(policy=Fair()))
    monkeypatch.setattr(shards, "STEPS", 60)
    data = play(Share(place / "policies" / "good.safetensors", 20_000, None, False), env=cartpole)
    assert data.length_E.mean() == pytest.approx(22.3, abs=1.2)  # of random actions; std 12 / sqrt(900) = 0.4
    assert data.terminated_E[:-1].all()


def test_no_more_processes_than_shards(place, small_shards):
    plan = generate.Plan(LINE, [Share(place / "policies" / "good.safetensors", 900, None, True)], 0)
    seen = []
    generate.fill(
        plan, Processes(Processes.Config(workers=50)), lambda: seen.append(len(multiprocessing.active_children()))
    )
    assert max(seen) == 2, "three shards fill it, the first of them from this process"


def test_threads_of_this_process_are_left_alone(place):
    before = torch.get_num_threads()
    play(Share(place / "policies" / "good.safetensors", 20, None, False))
    assert torch.get_num_threads() == before


def test_a_worker_that_fails_or_dies_is_said(place):
    share = Share(place / "policies" / "good.safetensors", 1_000_000, None, False)
    wrong = Share(policy_file(place / "policies" / "hop.safetensors", HOPPER), 100, None, False)
    plan = generate.Plan(LINE, [wrong], 0)
    with pytest.raises(RuntimeError, match=r"mat1|shape"):
        Processes(Processes.Config(workers=1)).run(plan.next, generate.handler(plan, lambda: None))

    def kill():
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(UserError, match="ended with code -9, perhaps for want of memory"):
        generate.fill(generate.Plan(LINE, [share], 0), Processes(Processes.Config(workers=2)), kill)
    assert not multiprocessing.active_children()


def test_what_will_be_made_is_told_before(place):
    run = built("algo=bc", "env=lineworld", "buffer.dataset=medium", "seeds=[0,1]")
    first, then = data_to_make([run, run])
    assert re.fullmatch(r"first makes lineworld/medium, 130 steps: about \d+ s, once; later runs find it there", first)
    assert then == "then trains 4 seeds"
    generate.make("lineworld", "medium", 1)
    assert list(data_to_make([run])) == []


def test_the_time_that_training_takes_is_told_as_far_as_the_gallery_knows_it():
    known, unknown = built("+experiment=dt_hopper"), built("algo=dt", "env=hopper", "algo.lr=0.5")
    (a_seed,) = {training([(known, 1.0)] * n, None)[0] for n in (2, 3)}
    assert re.fullmatch(r"about \d+ min a seed, as dt_hopper took on \S.*", a_seed)
    minutes = float(a_seed.split()[1])
    for seeds, at_once, rounds in ((3, 1, 3), (3, 2, 2), (2, 8, 1)):
        said, total = training([(known, 1.0)] * seeds, at_once)
        how = "one after another" if at_once == 1 else "2 at a time"
        hours, rest = re.fullmatch(rf"about (?:(\d+) h )?(\d+) min in all, {how}", total).groups()
        assert 60 * int(hours or 0) + int(rest) == pytest.approx(rounds * minutes, abs=2)
    said, total = training([(known, 0.5)], 1, before=600.0)
    assert said == a_seed
    assert training([(known, 1.0)], 1) == [a_seed]
    assert total == f"about {round(minutes / 2 + 10)} min in all"
    assert training([(known, 1.0), (unknown, 1.0)], 1) == [a_seed]
    assert training([(unknown, 1.0)], 1) == []
    assert training([(built("+experiment=dt_hopper", "train.budget=200"), 1.0)], 1) == []


def test_the_time_that_is_left_is_told_as_a_clock_has_it(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(generate.time, "monotonic", lambda: now[0])
    share = SimpleNamespace(path=Path("good.safetensors"))
    plan = SimpleNamespace(done=lambda: (1000, 50_000), shares=[share], unit="steps")
    with generate.ProgressBar("hopper/medium", plan) as progress:
        now[0] = 11.0
        progress.update()
    assert capsys.readouterr().err.splitlines()[1].split() == [
        "hopper/medium",
        "1,000/50,000",
        "steps",
        "0:08:59",
        "left",
    ]


def test_of_two_at_once_the_second_waits_and_takes_the_firsts(place, monkeypatch, capsys):
    played, original = [], generate.play

    def slow(*args):
        played.append(1)
        time.sleep(0.5)
        return original(*args)

    monkeypatch.setattr(generate, "play", slow)
    both = [threading.Thread(target=generate.make, args=("lineworld", "medium", 1)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(played) == 1
    assert len(asked("medium")) == 130
    assert "lineworld/medium: another process makes it; waiting for that" in capsys.readouterr().err


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


ENDLESS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from rlexp.cli import main
from rlexp.datasets import recipes
from rlexp.util import paths
recipes.FILE, paths.POLICIES = Path({file!r}), Path({policies!r})
if __name__ == "__main__":
    sys.exit(main.main(["data", "make", "lineworld/endless", "--processes", "2"]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_neither_data_nor_processes(place, how):
    recipes.FILE.write_text("lineworld:\n  endless: {policy: good, steps: 100_000_000}\n")
    code = ENDLESS.format(file=str(recipes.FILE), policies=str(paths.POLICIES))
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as making:
        deadline = time.monotonic() + 300
        while len(workers := children(making.pid)) < 3 and time.monotonic() < deadline:  # two, and their tracker
            time.sleep(0.1)
        time.sleep(0.5)
        making.send_signal(how)
        assert making.wait(180) == (130 if how == signal.SIGINT else -9)
        said = making.stderr.read()
    if how == signal.SIGINT:
        assert "interrupted; nothing of lineworld/endless was kept" in said
        assert "Traceback" not in said
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    assert names(place / "minari") == []
