"""Config keys that had another name once: stored runs, gallery cards and old command lines still mean the same.

`FORMER` is the only place that knows the former names. A key's former name says which algorithm it belongs to, since
the same word meant different things: `episodes` was what is now `num_envs` of vpg and `num_episodes` of cmaes.
"""

import functools
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlexp.experiment import compose
from rlexp.util import paths
from rlexp.util.errors import UserError

FORMER: dict[str, dict[str, str]] = {  # algorithm -> former key -> key
    "bc": {
        "minibatch": "batch_size",
        "updates_per_step": "log_every",
        "validation": "validation_fraction",
    },
    "cmaes": {
        "population": "population_size",
        "episodes": "num_episodes",
    },
    "dagger": {
        "minibatch": "batch_size",
        "trajectories": "episodes_per_round",
        "updates_per_step": "log_every",
    },
    "diffusion": {
        "context": "n_obs_steps",
        "execute": "n_action_steps",
        "layers": "num_layers",
        "width": "embed_dim",
        "heads": "num_heads",
        "denoise_steps": "num_train_timesteps",
        "eval_steps": "num_inference_steps",
        "ema": "ema_decay",
        "minibatch": "batch_size",
        "updates_per_step": "log_every",
    },
    "dpo": {
        "trajectories": "episodes_per_iteration",
        "envs": "num_envs",
        "held_out": "validation_fraction",
        "fragment": "fragment_length",
        "pairs": "num_pairs",
        "loss": "loss_type",
        "target": "target_margin",
        "reduce": "reduction",
        "epochs": "update_epochs",
        "minibatch": "batch_size",
    },
    "dt": {
        "context": "context_length",
        "layers": "num_layers",
        "heads": "num_heads",
        "width": "embed_dim",
        "max_timestep": "max_ep_len",
        "minibatch": "batch_size",
        "updates_per_step": "log_every",
    },
    "ppo": {
        "envs": "num_envs",
        "steps": "num_steps",
        "epochs": "update_epochs",
        "minibatch": "batch_size",
        "clip": "clip_coef",
        "value_clip": "vf_clip_coef",
        "value_coef": "vf_coef",
        "entropy_coef": "ent_coef",
        "horizon": "anneal_steps",
    },
    "rlhf": {
        "epoch_steps": "steps_per_epoch",
        "episodes": "num_envs",
        "clip": "clip_coef",
        "passes": "update_epochs",
        "kept": "kept_episodes",
        "fragment": "fragment_length",
        "pairs": "num_pairs",
        "held_out": "validation_fraction",
        "ensemble": "ensemble_size",
        "reward_decay": "reward_weight_decay",
        "reward_batch": "reward_batch_size",
    },
    "sac": {
        "envs": "num_envs",
        "steps": "num_steps",
        "updates_per_step": "gradient_steps",
        "warmup": "learning_starts",
        "batch": "batch_size",
        "tune_alpha": "autotune",
    },
    "vpg": {
        "episodes": "num_envs",
        "batch_steps": "steps_per_epoch",
        "epochs": "update_epochs",
        "minibatch": "batch_size",
        "value_coef": "vf_coef",
    },
}

# Group `logger` was an option once, true or false.
TENSORBOARD = "train.tensorboard"
LOGGER_TODAY = {"true": "tensorboard", "false": "none"}
TENSORBOARD_TODAY = {
    "tensorboard": {
        "_target_": "rlexp.loggers.tensorboard.TensorBoard",
        "flush_every": 120,
    }
}


def renamed(node: Mapping[str, Any]) -> dict[str, Any]:
    """The `algo` group of a config (`_target_` and its keys), each key by its name of today.

    Raises UserError where a key is given by its former and its present name.
    """
    former = FORMER.get(_algorithm(str(node.get("_target_"))), {})
    found = {}
    for key, value in node.items():
        name = former.get(key, key)
        if name != key and name in node:
            raise _both(key, name)
        found[name] = value
    return found


def with_loggers(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with group `logger`, which those from before it was there say by `train.tensorboard`."""
    if "logger" in config:
        return dict(config)
    train = dict(config["train"])
    tensorboard = train.pop("tensorboard", True)
    return {**config, "train": train, "logger": TENSORBOARD_TODAY if tensorboard else {}}


def translated(words: Iterable[str], algorithms: set[str] | None = None) -> list[str]:
    """The words of a command line, or of a study's arm, with former names replaced; stderr says so, once a name.

    `algorithms` are those that the words configure, by default the ones that they choose. Raises UserError where one
    word would have to become two, and where a key is given by its former and its present name.
    """
    words = _with_logger(list(words))
    if algorithms is None:
        algorithms = algorithms_of(words)
    given = {_split(word)[1] for word in words}
    found = []
    for word in words:
        sign, key, rest = _split(word)
        name = _name_today(key, algorithms)
        if name != key:
            if name in given:
                raise _both(key.removeprefix("algo."), name.removeprefix("algo."))
            _say(f"{key} is now called {name}")
        found.append(f"{sign}{name}{rest}")
    return found


def _with_logger(words: list[str]) -> list[str]:
    """The words with `train.tensorboard=...` as it is written today. Raises UserError for other values than true and
    false, and where the words choose loggers too."""
    found = []
    for word in words:
        _, key, rest = _split(word)
        if key != TENSORBOARD:
            found.append(word)
            continue
        today = LOGGER_TODAY.get(rest.removeprefix("=").lower())
        if today is None:
            raise UserError(f"{word}: is now written logger=tensorboard or logger=none")
        if any(_split(other)[1] == "logger" for other in words):
            raise UserError(f"{word}: is the former name of logger=...; give one of them, not both")
        _say(f"{key}{rest} is now written logger={today}")
        found.append(f"logger={today}")
    return found


def algorithms_of(words: Iterable[str]) -> set[str]:
    """The algorithms that the words of a command line choose, by name; of all arms, where they choose a study."""
    chosen = {}
    for word in words:
        _, key, rest = _split(word)
        chosen[key] = re.findall(r"[\w.-]+", rest) if key in ("algo", "experiment", "study") else [rest[1:]]
    if "resume" in chosen:
        run = Path(chosen["resume"][0])
        return _targets([run / "config.yaml", *run.glob("*/config.yaml")])
    if "algo" in chosen:
        return _named(chosen["algo"])
    for group in ("experiment", "study"):
        texts = [_text(compose.find(group, choice)) for choice in chosen.get(group, [])]
        names = re.findall(r"(?:override /|\b)algo(?:: |=)(\w+)", "\n".join(texts))
        if names:
            return _named(names)
    return _named(re.findall(r"- algo: (\w+)", _text(paths.CONF / "config.yaml")))


def _named(choices: Iterable[str]) -> set[str]:
    """The algorithms that these choices of group `algo` configure."""
    return _targets(compose.find("algo", choice) for choice in choices)


def _targets(files: Iterable[Path | None]) -> set[str]:
    """The algorithms that the `_target_`s in these files name; files that are not there name none."""
    found = (re.search(r"_target_: *([\w.]+)\.\w+ *(?:#.*)?$", _text(file), re.MULTILINE) for file in files)
    return {_algorithm(match[0].split()[1]) for match in found if match}


def _algorithm(target: str) -> str:
    """`ppo` of `rlexp.algos.ppo.PPO`; classes of other packages have no former names."""
    match = re.fullmatch(r"rlexp\.algos\.(\w+)\.\w+", target)
    return match[1] if match else target


def _text(file: Path | None) -> str:
    return file.read_text(encoding="utf-8") if file is not None and file.is_file() else ""


def _split(word: str) -> tuple[str, str, str]:
    """`++`, `algo.envs` and `=16` of `++algo.envs=16`."""
    match = re.match(r"([+~]*)([^=]*)(.*)", word, re.DOTALL)
    assert match is not None  # every string matches
    return match[1], match[2], match[3]


def _name_today(key: str, algorithms: set[str]) -> str:
    """Raises UserError where it depends on which of several algorithms is meant."""
    group, _, old = key.partition(".")
    if group != "algo" or not old:
        return key
    names = {algorithm: FORMER.get(algorithm, {}).get(old, old) for algorithm in sorted(algorithms)}
    if len(set(names.values())) > 1:
        said = ", ".join(f"algo.{name} of {algorithm}" for algorithm, name in names.items())
        raise UserError(f"{key}: means {said}; run these algorithms apart")
    return f"algo.{next(iter(names.values()), old)}"


def _both(old: str, new: str) -> UserError:
    return UserError(f"algo.{old}: is the former name of algo.{new}; give one of them, not both")


@functools.cache
def _say(text: str) -> None:
    """Once for each text: the arms of a study often share their words."""
    print(text, file=sys.stderr)
