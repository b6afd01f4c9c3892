"""Pictures of runs: what is averaged, what is said of it, and that half-written folders do no harm."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from rlexp.cli import main
from rlexp.report import compare as compare_file
from rlexp.report import curves as curves_file
from rlexp.report import history, lines
from rlexp.report.compare import compare, study
from rlexp.report.curves import curves
from rlexp.report.publish import publish
from rlexp.report.score_axis import scales
from rlexp.report.style import dash
from rlexp.report.words import spoken, tenths
from rlexp.util import paths, stats
from rlexp.util.errors import UserError, among

STEPS = np.arange(0, 50_001, 1000)


def write_run(
    folder,
    lengths=(1.0, 1.0, 1.0),
    status=None,
    *,
    algo="ppo",
    env="hopper",
    clock="env_steps",
    actions="mean",
    kwargs=None,
    reference=None,
    data=None,
    extra=lambda rng, t: {},
    final=lambda seed: 2000.0 + 100 * seed,
    steps=STEPS,
):
    """A run folder as training leaves it; `lengths` is how far each seed has come, as a share of the whole."""
    status = status or ["done" if length == 1 else "running" for length in lengths]
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "algo": {"_target_": f"rlexp.algos.{algo}.{algo.upper()}", "lr": 3e-4},
        "env": {"id": "Hopper-v5", "name": env, "kwargs": kwargs or {}},
        "train": {"budget": int(steps[-1])},
        "seeds": list(range(len(lengths))),
        "buffer": {"dataset": data, "path": None},
        "reference": reference,
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is yaml
    seeds, table = {}, ["seed,step,env_steps,updates,seconds,return_mean,return_std,score"]
    for seed, length in enumerate(lengths):
        rng, rows = np.random.default_rng(seed), []
        for i, step in enumerate(steps[: int(len(steps) * length)]):
            t = step / steps[-1]
            row = {"step": int(step), "env_steps": int(step), "updates": i, "seconds": t}
            if i:
                row |= {"loss/policy": -0.02 + 0.01 * rng.normal(), "loss/value": 50 * math.exp(-3 * t) * rng.gamma(4)}
                row |= extra(rng, t)
            if i % 5 == 0:
                row["eval/return_mean"] = (1800 + 200 * seed) * t**0.7 + 80 * rng.normal()
                row["eval/success_rate"] = min(1, max(0, t + 0.1 * rng.normal()))
                table.append(f"{seed},{step},{step},{i},{t},{row['eval/return_mean']},1.0,")
            rows.append(json.dumps(row) + "\n")
        (folder / f"seed_{seed}").mkdir(exist_ok=True)
        (folder / f"seed_{seed}" / "metrics.jsonl").write_text("".join(rows))
        seeds[str(seed)] = {"status": status[seed], "message": "", "step": int(step) if length else 0}
        if status[seed] == "done":
            seeds[str(seed)]["final"] = {"return_mean": final(seed), "success_rate": 0.9 + 0.01 * seed}
    (folder / "curve.csv").write_text("\n".join(table) + "\n")
    record = {
        "command": "python main.py",
        "commit": "0" * 40,
        "dirty": False,
        "versions": {"torch": "2.13.0"},
        "clock": clock,
        "seconds": 12.5,
        "eval": {"episodes": 10, "actions": actions},
        "seeds": seeds,
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Figures instead of files, by name."""
    figures: dict[str, Figure] = {}
    for module in (compare_file, curves_file):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.update({path.name: figure}))
    return figures


@pytest.fixture(autouse=True)
def empty_gallery(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "GALLERY", tmp_path / "gallery")


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


# Two-sided 95 % quantiles of Student's t, from any printed table.
@pytest.mark.parametrize(("dof", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045)])
def test_t_quantile_agrees_with_the_tables(dof, t):
    assert stats.t_quantile(0.95, dof) == pytest.approx(t, abs=6e-4)


def test_t_interval_of_a_known_sample():
    mean, half = stats.t_interval([1.0, 2.0, 3.0])  # std 1 (ddof 1), so half = 4.303 / √3
    assert mean == 2
    assert half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    assert math.isnan(stats.t_interval([5.0])[1])


def test_mean_band_interpolates_and_never_extrapolates():
    a = (np.array([0.0, 10.0, 20.0]), np.array([0.0, 10.0, 20.0]))
    b = (np.array([5.0, 15.0]), np.array([7.0, 17.0]))
    x, mean, half = lines.mean_band([a, b])
    assert x.tolist() == [5, 10, 15]
    assert mean.tolist() == [6, 11, 16]
    assert half == pytest.approx(stats.t_interval([5.0, 7.0])[1])


def test_seeds_without_a_common_step_have_no_mean():
    x, _, _ = lines.mean_band([(np.array([0.0, 1.0]), np.zeros(2)), (np.array([5.0, 6.0]), np.zeros(2))])
    assert len(x) == 0


def test_thinning_keeps_every_spike():
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[[777, 55_555]] = 1, -1
    thin_x, thin_y = lines.thinned((x, y))
    assert len(thin_x) <= 2 * lines.POINTS
    assert thin_x[thin_y.argmax()] == 777
    assert thin_x[thin_y.argmin()] == 55_555


def test_curves_shows_seeds_mean_interval_losses_and_kind_of_actions(tmp_path, drawn):
    curves(write_run(tmp_path / "run", actions="sampled"))
    main, *panels = drawn["curves.png"].axes
    assert labels(main) == ["seed 0", "seed 1", "seed 2", "mean, n = 3"]
    assert "sampled actions, 10 episodes" in main.get_ylabel()
    assert main.get_xlabel() == "environment steps"
    assert [axes.get_title(loc="left") for axes in panels] == ["policy loss", "value loss"]
    assert all(len(axes.lines) == 4 for axes in panels)


def test_a_long_title_takes_two_lines_and_returns_have_their_scores_beside_them(tmp_path, drawn):
    states = ["done", "failed", "interrupted"]
    run = write_run(tmp_path / "run", (1.0, 1.0, 0.5), states, env="a-name-of-some-length")
    config = json.loads((run / "config.yaml").read_text())
    config["env"] |= {"random_return": -20.0, "expert_return": 3180.0}
    (run / "config.yaml").write_text(json.dumps(config))
    curves(run)
    main = drawn["curves.png"].axes[0]
    assert max(map(len, main.get_title(loc="left").splitlines())) <= curves_file.TITLE
    assert [axes.get_ylabel() for axes in main.child_axes] == ["normalised score"]
    score_of, return_of = scales(-20.0, 3180.0)
    assert (score_of(3180.0), return_of(0.0)) == (100.0, -20.0)


def test_one_seed_has_no_interval(tmp_path, drawn):
    curves(write_run(tmp_path / "run", lengths=(1.0,)))
    main = drawn["curves.png"].axes[0]
    assert labels(main) == ["seed 0"]
    assert not main.collections


def test_failed_seed_is_shown_and_not_averaged(tmp_path, drawn):
    curves(write_run(tmp_path / "run", (1.0, 0.4, 1.0), ["done", "failed", "done"]))
    main = drawn["curves.png"].axes[0]
    assert labels(main) == ["seed 0", "seed 1, failed", "seed 2", "mean, n = 2"]
    assert "3 seeds: 2 done, 1 failed" in main.get_title(loc="left")
    mean = next(line for line in main.lines if str(line.get_label()).startswith("mean"))
    assert mean.get_xdata()[-1] == STEPS[-1]


def test_seed_that_has_just_begun_does_not_cut_the_mean(tmp_path, drawn):
    curves(write_run(tmp_path / "run", (1.0, 1.0, 0.1, 0.0), ["done", "done", "running", "waiting"]))
    main = drawn["curves.png"].axes[0]
    assert labels(main)[-1] == "mean, n = 2"
    assert "4 seeds: 2 done, 1 running, 1 waiting" in main.get_title(loc="left")
    mean = next(line for line in main.lines if str(line.get_label()).startswith("mean"))
    assert mean.get_xdata()[-1] == STEPS[-1]


def test_parallel_seeds_are_averaged_as_far_as_all_have_come(tmp_path, drawn):
    curves(write_run(tmp_path / "run", (0.5, 0.6, 0.7)))
    main = drawn["curves.png"].axes[0]
    mean = next(line for line in main.lines if str(line.get_label()).startswith("mean"))
    assert mean.get_xdata()[-1] == 20_000  # the last evaluation of the slowest


def test_nothing_is_drawn_before_the_first_evaluation(tmp_path):
    folder = write_run(tmp_path / "run", (0.0, 0.0))
    curves(folder)
    assert not list(folder.glob("*.png"))


def test_half_written_line_is_left_out(tmp_path, drawn):
    folder = write_run(tmp_path / "run", (1.0,))
    with open(folder / "seed_0" / "metrics.jsonl", "a") as file:
        file.write('{"step": 51000, "eval/return_m')
    curves(folder)
    assert drawn["curves.png"].axes[0].lines[0].get_xdata()[-1] == STEPS[-1]


def test_sample_returns_and_path_of_a_search_in_the_plane(tmp_path, drawn):
    def search(rng, t):
        mean = np.array([65, 49]) * (1 - math.exp(-6 * t)) + rng.normal(size=2)
        return {
            "state/mean_0": mean[0],
            "state/mean_1": mean[1],
            "data/return_mean": -3000 * math.exp(-5 * t),
            "data/return_best": -900 * math.exp(-6 * t),
        }

    kwargs = {"optimum": [65, 49]}
    folder = write_run(tmp_path / "run", algo="cmaes", env="sphere", clock="updates", kwargs=kwargs, extra=search)
    curves(folder)
    sample = drawn["curves.png"].axes[-1]
    assert sample.get_title(loc="left") == "sample return"
    assert labels(sample) == ["best of an iteration", "mean of an iteration"]
    assert drawn["curves.png"].axes[0].get_xlabel() == "updates"
    way, end = drawn["path.png"].axes
    assert np.ptp(end.get_xlim()) < np.ptp(way.get_xlim())  # its end is seen
    assert (way.get_xlabel(), way.get_ylabel()) == ("μ[0]", "μ[1]")
    assert set(labels(way)) == {
        "2 more",
        "mean of seed 0",
        "start (step 1000)",
        "end (step 50000)",
        "optimum [65, 49]",
    }


def test_reference_is_drawn_in_this_runs_clock(tmp_path, drawn):
    publish(write_run(tmp_path / "old", (1.0, 1.0, 0.3), ["done", "done", "failed"], actions="sampled"))
    curves(write_run(tmp_path / "new", clock="updates"))
    main = drawn["curves.png"].axes[0]
    assert labels(main)[0] == "gallery ppo_hopper: mean, n = 2, sampled actions"
    assert main.lines[0].get_xdata()[-1] == len(STEPS) - 1
    assert "gallery" not in str(labels(_redraw(tmp_path / "new", drawn, reference=False)))


def test_reference_has_learned_from_the_same_data_or_it_is_said(tmp_path, drawn):
    publish(write_run(tmp_path / "old", data="medium"))
    publish(write_run(tmp_path / "other", data="hopper/expert"), "expert")
    for data, title, label in (
        ("minari:rlexp/hopper/medium-v0", "ppo on hopper, medium", "gallery ppo_hopper: mean"),
        ("expert", "ppo on hopper, expert", "gallery ppo_hopper-expert: mean"),
        ("minari:mujoco/hopper/expert-v0", "ppo on hopper, minari:mujoco/hopper/expert-v0", "n = 3, on medium"),
    ):
        curves(write_run(tmp_path / "new", data=data))
        main = drawn["curves.png"].axes[0]
        assert main.get_title(loc="left") == title
        assert label in labels(main)[0]
        assert (", on " in labels(main)[0]) == ("mujoco" in data)


def test_reference_ends_where_the_run_does(tmp_path, drawn):
    publish(write_run(tmp_path / "old"))
    curves(write_run(tmp_path / "new", (0.3, 0.3)))
    main = drawn["curves.png"].axes[0]
    assert main.lines[0].get_xdata()[-1] == main.lines[1].get_xdata()[-1] == 10_000
    assert main.get_ylim()[1] < 1500  # not where the reference goes later


def test_a_reference_with_losses_is_drawn_beneath_them_too(tmp_path, drawn):
    entry = publish(write_run(tmp_path / "old"))
    head, *rows = entry.read_text().splitlines()
    entry.write_text("\n".join([head + ",loss/value", *(f"{row},{7.0}" for row in rows)]) + "\n")
    curves(write_run(tmp_path / "new"))
    _, policy, value = drawn["curves.png"].axes
    assert len(value.lines) == len(policy.lines) + 1
    assert set(value.lines[0].get_ydata()) == {7.0}


def test_a_wide_band_does_not_flatten_the_curves(tmp_path, drawn):
    curves(write_run(tmp_path / "run", (1.0, 1.0)))  # two seeds: 12.7 standard errors
    main = drawn["curves.png"].axes[0]
    top = max(line.get_ydata().max() for line in main.lines)
    assert top < main.get_ylim()[1] < 1.3 * top


def test_many_seeds_share_one_label(tmp_path, drawn):
    curves(write_run(tmp_path / "run", (0.5,) + (1.0,) * 7, ["failed"] + ["done"] * 7))
    assert labels(drawn["curves.png"].axes[0]) == ["seed 0, failed", "8 seeds", "mean and 95 % t-interval, n = 7"]


def _redraw(folder, drawn, **options):
    curves(folder, **options)
    return drawn["curves.png"].axes[0]


def test_reference_that_is_gone_does_not_stop_a_run(tmp_path, drawn):
    curves(write_run(tmp_path / "run", reference="no_such_entry"))
    assert "curves.png" in drawn


def test_study_shows_every_arm_and_every_seed(tmp_path, drawn):
    (tmp_path / "study").mkdir()
    spec = {
        "name": "x",
        "title": "A lesson",
        "metric": "eval/success_rate",
        "arms": {"slow": [], "fast": [], "none": []},
    }
    (tmp_path / "study" / "study.yaml").write_text(json.dumps(spec))
    write_run(tmp_path / "study" / "slow")
    write_run(tmp_path / "study" / "fast", (1.0, 1.0, 0.2), ["done", "done", "failed"])
    write_run(tmp_path / "study" / "none", (0.0,) * 3, ["waiting"] * 3)
    study(tmp_path / "study")
    assert labels(drawn["study.png"].axes[0]) == ["slow", "fast"]
    spec["names"] = {"slow": "a small learning rate"}
    (tmp_path / "study" / "study.yaml").write_text(json.dumps(spec))
    study(tmp_path / "study")
    left, right = drawn["study.png"].axes
    assert labels(left) == ["a small learning rate", "fast"]
    assert "success rate (mean actions, 10 episodes)" in left.get_ylabel()
    assert [len(line.get_xdata()) for line in right.lines if line.get_marker() == "o"] == [3, 2]
    assert [text.get_text() for text in right.texts] == [
        "n = 3",
        "n = 2, 1 without a value",
        "n = 0, 3 without a value",
    ]


def test_names_of_a_study_fit_its_arms():
    arms = {"slow": [], "fast": []}
    assert history.arm_names({"arms": arms}) == {"slow": "slow", "fast": "fast"}
    for names, message in (
        ({"slwo": "x"}, r"names\.slwo: there is no such arm; did you mean 'slow'\?"),
        ({"slow": "fast"}, "two arms are called the same"),
        (["slow"], "is no mapping"),
    ):
        with pytest.raises(UserError, match=message):
            history.arm_names({"arms": arms, "names": names})


def test_a_band_begins_with_four_seeds(tmp_path, drawn):
    curves(write_run(tmp_path / "three"))
    assert not drawn["curves.png"].axes[0].collections
    curves(write_run(tmp_path / "four", (1.0,) * 4))
    main = drawn["curves.png"].axes[0]
    assert len(main.collections) == 1
    assert labels(main)[-1] == "mean and 95 % t-interval, n = 4"


def test_every_panel_says_what_its_axes_are(tmp_path, drawn):
    curves(write_run(tmp_path / "run", extra=lambda rng, t: {"data/return_best": t, "data/return_mean": t}))
    _, *panels = drawn["curves.png"].axes
    assert [axes.get_ylabel() for axes in panels] == ["loss", "loss", "return"]
    assert panels[-1].get_xlabel().startswith("environment steps")


def teach(folder, **facts):
    """Let a run folder's config say who taught it."""
    config = json.loads((folder / "config.yaml").read_text())
    for group, body in facts.items():
        config[group] = {**config.get(group, {}), **body}
    (folder / "config.yaml").write_text(json.dumps(config))


@pytest.mark.parametrize("teacher", [{"buffer": {"dataset": "medium"}}, {"expert": {"policy": "bipedal-expert"}}])
def test_what_imitates_has_a_picture_of_mean_median_and_max_and_of_its_loss(tmp_path, drawn, teacher):
    folder = write_run(tmp_path / "run", extra=lambda rng, t: {"eval/return_median": t, "eval/return_max": 2 * t})
    curves(folder)
    assert "episodes.png" not in drawn
    teach(folder, **teacher)
    curves(folder)
    returns, losses = drawn["episodes.png"].axes
    assert labels(returns) == ["mean", "median", "max"]
    assert [line.get_linestyle() for line in returns.get_legend().get_lines()] == ["-", "-", "-"]
    assert returns.get_ylabel() == "return of 10 episodes (mean actions)"
    assert (labels(losses), losses.get_ylabel()) == (["policy", "value"], "loss")
    assert {axes.get_xlabel() for axes in (returns, losses)} == {"environment steps"}


def test_equal_returns_of_what_imitates_are_all_seen(tmp_path, drawn):
    folder = write_run(tmp_path / "run", extra=lambda rng, t: {"eval/return_median": t, "eval/return_max": t})
    teach(folder, buffer={"dataset": "medium"})
    curves(folder)
    returns = drawn["episodes.png"].axes[0]
    assert [line.get_linestyle() for line in returns.get_legend().get_lines()] == ["-", "-", "--"]


def test_where_novices_end_is_marked_and_a_reward_learns_in_passes(tmp_path, drawn):
    steps = np.repeat(np.arange(0, 20), 3)
    folder = write_run(
        tmp_path / "run",
        steps=steps,
        clock="updates",
        extra=lambda rng, t: {"loss/reward": 1 - t, "data/reward_accuracy": t} if 0.4 < t < 0.5 else {},
    )
    teach(folder, algo={"novice_epochs": 10})
    curves(folder)
    main, *panels = drawn["curves.png"].axes
    (mark,) = [line for line in main.lines if line.get_label() == "novices end"]
    assert list(mark.get_xdata()) == [10, 10]
    reward, accuracy = panels[-2:]
    assert (reward.get_ylabel(), accuracy.get_ylabel()) == ("loss", "share of pairs")
    passes = accuracy.lines[0].get_xdata()
    assert list(passes) == list(range(1, len(passes) + 1))
    assert len(passes) > 2


@pytest.mark.parametrize(("name", "begin"), [("x.svg", b"<?xml"), ("x.pdf", b"%PDF"), ("x.png", b"\x89PNG")])
def test_a_picture_is_of_the_format_that_its_name_ends_in(tmp_path, name, begin):
    folder = write_run(tmp_path / "run")
    assert main.main(["curves", str(folder), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_other_formats_are_refused(tmp_path, capsys):
    assert main.main(["curves", str(tmp_path), "--out", str(tmp_path / "x.gif")]) == 2
    assert "must end in .png, .svg or .pdf" in capsys.readouterr().err


def test_a_comparison_over_another_metric_is_a_curve_or_where_that_stands_still_a_point(tmp_path, drawn):
    write_run(tmp_path / "asks", extra=lambda rng, t: {"data/labels": 100.0 + t})
    write_run(tmp_path / "shown", extra=lambda rng, t: {"data/labels": 500.0})
    arms = {name: history.Run.read(tmp_path / name) for name in ("asks", "shown")}
    compare(arms, "eval/return_mean", tmp_path / "c.png", against="data/labels")
    left, middle, _ = drawn["c.png"].axes
    assert middle.get_xlabel() == "labels"
    bold = [line for line in middle.lines if line.get_linewidth() > 1]  # thin: each seed
    curve, point = (line for line in bold if len(line.get_xdata()) > 1 or line.get_marker() == "o")
    assert len(curve.get_xdata()) > 1
    whole = next(line for line in left.lines if line.get_label() == "asks")
    assert list(curve.get_ydata()) == list(whole.get_ydata())[1:]  # labels are known from the first update on
    last = [float(y[-1]) for _, y in arms["shown"].lines("eval/return_mean").values()]
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([500.0], [pytest.approx(np.mean(last))])


def test_a_wide_band_does_not_flatten_a_comparison(tmp_path, drawn):
    arms = {name: history.Run.read(write_run(tmp_path / name, (1.0, 1.0))) for name in "ab"}
    compare(arms, "eval/return_mean", tmp_path / "c.png")
    left = drawn["c.png"].axes[0]
    top = max(line.get_ydata().max() for line in left.lines)
    assert top < left.get_ylim()[1] < 1.3 * top
    right = drawn["c.png"].axes[1]
    assert right.get_title(loc="left") == "every seed, and their mean"
    low, high = right.get_xlim()
    assert (low > 1990, high < 2110) == (True, True), "finals of 2000 and 2100, no interval of two seeds"


def test_arms_of_one_curve_are_all_seen(tmp_path, drawn):
    arms = {name: history.Run.read(write_run(tmp_path / name, (1.0,))) for name in "abc"}
    compare(arms, "eval/return_mean", tmp_path / "c.png")
    left, right = drawn["c.png"].axes
    assert [line.is_dashed() for line in left.lines if line.get_label() in arms] == [False, True, True]
    assert (dash(1), dash(2)) == ((3, 3), (3, 9))  # b is seen in the gaps of c
    assert left.get_title(loc="left") == right.get_title(loc="left") == "one seed each"


def test_a_learner_from_data_beside_one_that_plays_is_a_point_at_no_steps(tmp_path, drawn):
    write_run(tmp_path / "plays")
    write_run(tmp_path / "copies", clock="updates", extra=lambda rng, t: {"env_steps": 0})
    arms = {name: history.Run.read(tmp_path / name) for name in ("plays", "copies")}
    compare(arms, "eval/return_mean", tmp_path / "c.png")
    left = drawn["c.png"].axes[0]
    assert left.get_xlabel() == "environment steps"
    assert labels(left) == ["plays", "copies"]
    (point,) = (line for line in left.lines if line.get_marker() == "o")
    last = [float(y[-1]) for _, y in arms["copies"].lines("eval/return_mean").values()]
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([0.0], [pytest.approx(np.mean(last))])


def test_compare_command(tmp_path, capsys):
    for name in ("a", "b"):
        write_run(tmp_path / name, extra=lambda rng, t: {"data/labels": 1.0 + t})
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c.png")]
    assert main.main([*words, "--names", "first,second", "--over", "data/labels", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(row["run"], row["n"]) for row in said["runs"]] == [("first", 3), ("second", 3)]
    last = [float(y[-1]) for _, y in history.Run.read(tmp_path / "a").lines("eval/return_mean").values()]
    assert said["runs"][0]["mean"] == pytest.approx(np.mean(last))
    assert (tmp_path / "c.png").stat().st_size > 10_000
    for more, message in (
        (["--names", "one"], "as many different names"),
        (["--metric", "eval/return_men"], "did you mean 'eval/return_mean'"),
    ):
        assert main.main([*words, *more]) == 2
        assert message in capsys.readouterr().err
    assert main.main([*words, "--last", "15000", "--json"]) == 0
    lines = history.Run.read(tmp_path / "a").lines("eval/return_mean").values()
    means = [np.mean([b for a, b in zip(x, y, strict=True) if a > x[-1] - 15_000]) for x, y in lines]
    assert all(mean not in (y[-1], np.mean(y)) for mean, (_, y) in zip(means, lines, strict=True))
    assert json.loads(capsys.readouterr().out)["runs"][0]["mean"] == pytest.approx(np.mean(means))
    write_run(tmp_path / "b", extra=lambda rng, t: {"data/labels": -1.0 * t})
    assert main.main([*words, "--against", "data/labels"]) == 2  # as it was written once
    assert "data/labels: falls in b" in capsys.readouterr().err
    write_run(tmp_path / "b")  # has no labels
    assert main.main([*words, "--metric", "data/labels"]) == 0
    assert "| b | 0, 3 without a value |  |  |  |  |" in capsys.readouterr().out
    write_run(tmp_path / "b", (1.0, 1.0, 0.5))
    assert main.main([*words, "--json"]) == 0
    assert [(row["n"], row["missing"]) for row in json.loads(capsys.readouterr().out)["runs"]] == [(3, 0), (2, 1)]
    assert main.main(["compare", str(tmp_path)]) == 2
    assert "no run or study folder" in capsys.readouterr().err


def test_curves_command_draws_beside_any_reference(tmp_path, drawn, capsys):
    publish(write_run(tmp_path / "other", algo="sac"))
    words = [str(write_run(tmp_path / "run")), "--out", str(tmp_path / "x.png")]
    assert main.main(["curves", *words]) == 0
    assert not any("gallery" in label for label in labels(drawn["x.png"].axes[0]))
    assert main.main(["curves", *words, "--reference", "sac_hopper"]) == 0
    assert any("gallery sac_hopper" in label for label in labels(drawn["x.png"].axes[0]))
    assert main.main(["curves", "sac_hopper", "--out", str(tmp_path / "entry.png")]) == 0
    assert "(sac_hopper)" in drawn["entry.png"].axes[0].get_title(loc="left")
    for words, message in (
        ([str(tmp_path)], "no run folder"),
        ([str(tmp_path / "run"), "--reference", "sac_hoper"], "did you mean 'sac_hopper'"),
    ):
        assert main.main(["curves", *words]) == 2
        assert message in capsys.readouterr().err


def test_long_runs_are_drawn_in_a_second(tmp_path):
    folder = write_run(tmp_path / "run", steps=np.arange(0, 4_000_001, 1000), extra=lambda rng, t: {"loss/x": t})
    run = history.Run.read(folder)
    code = (
        "import sys, time; from pathlib import Path; from rlexp.report.curves import curves\n"
        "folder = Path(sys.argv[1])\n"
        "curves(folder); start = time.process_time(); curves(folder); print(time.process_time() - start)"
    )
    seconds = float(subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True).stdout)
    assert len(run.rows["0"]) == 4001
    assert seconds < 2  # about half of one on a quiet machine
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plotting_imports_no_torch():
    code = (
        "import sys, rlexp.report.curves, rlexp.report.references\n"
        "sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [(199.26, "199.3"), (-1.0, "-1.0"), (0.0, "0.0"), (-0.001499, "-0.0015"), (0.4, "0.4"), (0.97, "0.97")],
)
def test_what_is_below_one_keeps_two_digits(value, said):
    assert tenths(value) == said


def test_a_label_says_how_each_arm_was_evaluated_in_lines_that_fit_beside_the_axis():
    kinds = ["mean actions, 20 episodes", "sampled actions, 20 episodes"]
    label = compare_file._with_kinds("mean return", kinds)
    assert all(kind in label for kind in kinds)
    assert max(len(line) for line in label.splitlines()) <= compare_file.LONGEST


def test_metrics_are_named_as_a_person_would():
    assert spoken("loss/policy") == "policy loss"
    assert spoken("data/reward_accuracy") == "reward accuracy"
    assert spoken("eval/return_mean") == "mean return"
    assert spoken("eval/success_rate") == "success rate"
    assert spoken("data/return_best") == "best return"


def test_a_message_names_as_many_choices_as_a_line_holds():
    assert among("abc") == "a, b, c"
    assert among("abcdefghijkl") == "a, b, c, d, e, f, g and 5 more"
