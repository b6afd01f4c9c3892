"""rlexp: one command trains, evaluates and films a policy, and every number can be had again.

In a notebook:

    run = rlexp.train("algo=ppo", "env=cartpole", seeds=[0])    # what `rlexp train algo=ppo ...` does
    saved = run.policy()    # or rlexp.load_policy: of a run folder, a file, or a name in gallery/policies
    action = saved.policy.act(obs[None])[0]
    rlexp.record(saved, "episode.mp4")

Mistakes raise rlexp.UserError.
"""

__version__ = "0.1.0"
_PLACES = {
    "train": "rlexp.cli.notebook",
    "load_policy": "rlexp.policies.files",
    "evaluate": "rlexp.rollout.score",
    "record": "rlexp.report.film",
    "UserError": "rlexp.util.errors",
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str):  # importing rlexp imports no torch, so that --help answers at once
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'rlexp' has no attribute '{name}'")
