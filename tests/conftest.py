"""Tests keep data sets in a folder of their own, for the session; some in one of their own each."""

import os
import signal

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run on every core already

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background, and what the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _minari_of_the_session(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        yield


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A root of data sets, policies and recipes of the test's own."""
    from rlexp.datasets import recipes
    from rlexp.util import paths
    from tests.datasets import policy_file

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(paths, "POLICIES", tmp_path / "policies")
    monkeypatch.setattr(recipes, "FILE", tmp_path / "datasets.yaml")
    policy_file(tmp_path / "policies" / "good.safetensors")
    policy_file(tmp_path / "policies" / "better.safetensors", seed=1)
    for step in (0, 40, 80, 120):
        policy_file(tmp_path / "policies" / "ladder" / f"policy_{step:06d}.safetensors", seed=step)
    (tmp_path / "policies" / "good.json").write_text('{"scores": {"mean": {"return_mean": -1}}}')
    recipes.FILE.write_text(
        "lineworld:\n"
        "  medium: {policy: good, steps: 130, sampled: true}\n"
        "  expert: {policy: better, episodes: 7}\n"
        "  medium-replay: {ladder: ladder, until: good, steps: 200}\n"
        "  medium-expert: {parts: [medium, expert]}\n"
        "  lost: {policy: nowhere, steps: 10}\n"
    )
    return tmp_path
