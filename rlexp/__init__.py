"""rlexp: one command trains, evaluates and films a policy, and every number can be had again.

In a notebook:

    saved = rlexp.load_policy("runs/2026-01-31/12-00-00_ppo_cartpole")     # or a file, or a name in gallery/policies
    action = saved.policy.act(obs[None])[0]
    rlexp.record(saved, "episode.mp4")
"""

__version__ = "0.1.0"
_PLACES = {"load_policy": "rlexp.policies.files", "record": "rlexp.report.film", "evaluate": "rlexp.rollout.score"}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str):  # importing rlexp imports no torch, so that --help answers at once
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'rlexp' has no attribute '{name}'")
