"""Agents of Stable-Baselines3: the zips that `model.save` writes, and the pickles of `VecNormalize.save`.

Of a zip only `policy.pth`, a state_dict, and `data`, JSON, are read, in memory. `data` holds pickled objects too, in
base64, which are left alone: beside each stands what it is in words, an activation's class for instance. Of the pickle
only arrays and numbers are made; what else is in it becomes an `unpickle.Stub`.

    PPO, A2C     a = mean, clipped to the action space            σ the same in all states; with gSDE there is none such
    SAC          a = low + ½ (tanh μ + 1) (high − low)            σ from the network
    TD3, DDPG    the same                                         no σ
"""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch

from rlexp.envs.spec import EnvSpec
from rlexp.policies.reading import Parts, Reading, Unsaid, listed
from rlexp.policies.tensors import read_tensors
from rlexp.util import unpickle
from rlexp.util.errors import UserError, said_of

Tensors = Mapping[str, torch.Tensor]

MOST = 20  # times as large as the zip may a member be; they are stored as they are, or compressed by somebody else
ACTIVATIONS = {
    "Tanh": "tanh",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "ELU": "elu",
}
STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")  # as the zoo and the hub name them
EPSILON = 1e-8  # what our Normaliser adds to a variance
STUBS = r"(stable_baselines3|gymnasium|gym|numpy\.random)(\.\w+)*"  # modules that a pickle of VecNormalize names


def is_sb3(path: Path) -> bool:
    """Whether the file is a zip with the members of Stable-Baselines3's."""
    try:
        with ZipFile(path) as archive:
            return {"data", "policy.pth"} <= set(archive.namelist())
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def statistics_file(path: Path, named: str | None) -> Path | None:
    """The pickle of VecNormalize that belongs to the zip at `path`: the one named, else one that lies where the zoo and
    the hub put it. Raises UserError where none is called as named."""
    if named is not None:
        if not Path(named).is_file():
            raise UserError(f"vecnormalize={named}: no such file")
        return Path(named)
    places = [folder / name for folder in (path.with_suffix(""), path.parent) for name in STATISTICS]
    return next((place for place in places if place.is_file()), None)


def read(path: Path, env: EnvSpec, unsaid: Unsaid) -> Reading:
    """The agent in the zip at `path`, which acts in `env`. Raises UserError."""
    with said_of(str(path)):
        content = _member(path, "policy.pth")
    tensors = read_tensors(path, content)
    with said_of(str(path)):
        said = _said(path)
        parts, squashed, usual = _parts(tensors, said, env)
        activation, note = _activation(said, usual, unsaid.activation)
    statistics = statistics_file(path, unsaid.vecnormalize)
    if statistics is not None:
        with said_of(str(statistics)):
            parts.normaliser = _normaliser(_unpickled(statistics), env)
        parts.notes.append(f"observation statistics of {statistics}")
    if note:
        parts.notes.append(note)
    if squashed is not None and parts.normaliser is None:
        return _squashed(parts, squashed, env, activation)
    if squashed is not None:
        parts.notes.append("its standard deviation depends on the state; with VecNormalize it has mean actions only")
    return parts.as_actor(env, activation, activation)


def _member(path: Path, name: str) -> bytes:
    """The content of one member of the zip. Raises UserError."""
    try:
        with ZipFile(path) as archive:
            info = archive.getinfo(name)
            if info.file_size > MOST * path.stat().st_size:
                raise UserError(
                    f"{path}: {name} would be {info.file_size:,} bytes, which Stable-Baselines3 never writes"
                )
            with archive.open(info) as file:
                content = file.read(info.file_size + 1)
    except (BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error) as error:
        raise UserError(f"its {name} cannot be read ({error})") from None
    return content


def _said(path: Path) -> dict[str, Any]:
    """What `data` says of the policy's keyword arguments, in words. Raises UserError."""
    try:
        data = json.loads(_member(path, "data"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"its data cannot be read as JSON ({str(error)[:100]})") from None
    said = data.get("policy_kwargs", {}) if isinstance(data, dict) else {}
    return said if isinstance(said, dict) else {}


def _activation(said: dict[str, Any], usual: str, given: str | None) -> tuple[str, str]:
    """The activation that the zip says, Stable-Baselines3's default where it says none; and a note where another one
    was `given`. Raises UserError for one that rlexp has not."""
    written = said.get("activation_fn")
    theirs = usual
    if written is not None:
        name = re.search(r"\.(\w+)'?>?$", str(written))
        theirs = ACTIVATIONS.get(name[1] if name else "", "")
    if given is not None and given != theirs:
        return given, f"activation {given} was given; the zip says {written or usual}"
    if not theirs:
        raise UserError(f"its activation is {str(written)[:80]}; there are {', '.join(ACTIVATIONS)}")
    return theirs, ""


def _parts(tensors: Tensors, said: dict[str, Any], env: EnvSpec) -> tuple[Parts, Parts | None, str]:
    """The actor's tensors; for SAC also those of its log standard deviation; and the usual activation. Raises
    UserError."""
    features = [name for name in tensors if "features_extractor." in name]
    if features or "FlattenExtractor" not in str(said.get("features_extractor_class", "FlattenExtractor")):
        what = features[0] if features else said["features_extractor_class"]
        raise UserError(f"sees observations through a features extractor ({str(what)[:80]}); only MlpPolicy is read")
    if "action_net.weight" in tensors:
        body = _sequence(tensors, "mlp_extractor.shared_net") + _sequence(tensors, "mlp_extractor.policy_net")
        parts = _chain(tensors, [*body, "action_net"], env)
        _add_log_std(parts, tensors, env)
        if said.get("squash_output") is True:
            parts.bounds = _box(env)
        return parts, None, "tanh"
    if "actor.mu.weight" in tensors and "actor.log_std.weight" in tensors:
        body = _sequence(tensors, "actor.latent_pi")
        spread = _chain(tensors, [*body, "actor.log_std"], env)
        parts = _chain(tensors, [*body, "actor.mu"], env)
        parts.bounds = _box(env)
        return parts, spread, "relu"
    if "actor.latent_pi.0.weight" in tensors:
        raise UserError("explores by gSDE (use_sde=True), which rlexp has not for SAC")
    if "actor.mu.0.weight" in tensors:
        parts = _chain(tensors, _sequence(tensors, "actor.mu"), env)
        parts.bounds = _box(env)
        return parts, None, "relu"
    raise UserError(f"is no policy of PPO, A2C, SAC, TD3 or DDPG; it holds {listed(tensors, 6)}")


def _sequence(tensors: Tensors, prefix: str) -> list[str]:
    """Names of the linear layers of the nn.Sequential `prefix`, in order."""
    numbers = [re.fullmatch(re.escape(prefix) + r"\.(\d{1,4})\.weight", name) for name in tensors]
    return [f"{prefix}.{number}" for number in sorted(int(found[1]) for found in numbers if found)]


def _chain(tensors: Tensors, layers: list[str], env: EnvSpec) -> Parts:
    """The tensors of `layers`, which must lead from observations to actions. Raises UserError."""
    widths = [env.obs_dim]
    for i, layer in enumerate(layers):
        weight = tensors[f"{layer}.weight"]
        bias = tensors.get(f"{layer}.bias")
        n_out = env.n_actions if i == len(layers) - 1 else len(weight)
        if tuple(weight.shape) != (n_out, widths[-1]):
            raise UserError(
                f"{layer}.weight {tuple(weight.shape)}, expected ({n_out}, {widths[-1]}): the environment has "
                f"{env.obs_dim} observations and {env.n_actions} actions"
            )
        if bias is None or tuple(bias.shape) != (n_out,):
            raise UserError(f"{layer}.bias is missing or not ({n_out},)")
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise UserError(f"{layer} holds what is not a finite number")
        widths.append(n_out)
    return Parts([tensors[f"{x}.weight"] for x in layers], [tensors[f"{x}.bias"] for x in layers], None, None)


def _add_log_std(parts: Parts, tensors: Tensors, env: EnvSpec) -> None:
    log_std = tensors.get("log_std")
    if (log_std is None) != (env.kind == "discrete"):
        theirs = "discrete" if log_std is None else "continuous"
        raise UserError(f"chooses {theirs} actions, the environment's are {env.kind}")
    if log_std is None:
        return
    if tuple(log_std.shape) == (env.n_actions,):
        parts.log_std_A = log_std
    else:
        parts.notes.append("explores by gSDE, whose spread depends on the state, so it has mean actions only")


def _box(env: EnvSpec) -> list[list[float]]:
    if env.kind == "discrete":
        raise UserError("chooses continuous actions, the environment's are discrete")
    low_A, high_A = env.box
    if not np.isfinite([low_A, high_A]).all():
        raise UserError("squashes its actions to bounds, which they have not here; is it policy.bounded=true?")
    return [low_A.tolist(), high_A.tolist()]


def _squashed(parts: Parts, spread: Parts, env: EnvSpec, activation: str) -> Reading:
    """SAC's policy: one network gives both means and log standard deviations."""
    hidden = [len(weight) for weight in parts.weights[:-1]]
    state = {"log_alpha": torch.tensor(0.0)}
    last = len(parts.weights) - 1
    for i in range(last + 1):
        weight = parts.weights[i]
        bias = parts.biases[i]
        if i == last:
            weight = torch.cat([weight, spread.weights[i]])
            bias = torch.cat([bias, spread.biases[i]])
        state[f"body.{2 * i}.weight"] = weight.float()
        state[f"body.{2 * i}.bias"] = bias.float()
    actor = {"obs_dim": env.obs_dim, "n_actions": env.n_actions, "hidden": hidden, "activation": activation}
    return Reading("sac", {"actor": actor, "explore": False, **env.bounds}, state, parts.notes, None)


def _unpickled(path: Path) -> Any:
    """What the pickle holds, with stubs for its objects. Raises UserError."""
    try:
        return unpickle.load(path, STUBS)
    except unpickle.Wrong as error:
        raise UserError(str(error)) from None
    except Exception as error:  # what broken bytes raise
        raise UserError(f"cannot be read as a pickle ({type(error).__name__})") from None


def _normaliser(vec: Any, env: EnvSpec) -> dict[str, Any] | None:
    """The state of our `Normaliser` that does what VecNormalize does; None where it leaves observations alone. Raises
    UserError."""
    if not isinstance(vec, unpickle.Stub) or "obs_rms" not in vec.state:
        raise UserError("is no pickle of VecNormalize")
    state = vec.state
    if state.get("norm_obs") is False:
        return None
    rms = state["obs_rms"]
    if not isinstance(rms, unpickle.Stub):
        raise UserError(f"its obs_rms is a {type(rms).__name__}; only plain observations are read")
    try:
        mean = np.asarray(rms.state["mean"], np.float64)
        var = np.asarray(rms.state["var"], np.float64) + float(state["epsilon"]) - EPSILON
        clip = float(state["clip_obs"])
        count = float(rms.state["count"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"its observation statistics cannot be read ({error})") from None
    if mean.shape != (env.obs_dim,) or var.shape != mean.shape:
        raise UserError(f"its mean has shape {mean.shape}, expected ({env.obs_dim},): the environment's observations")
    if not (np.isfinite(mean).all() and np.isfinite(var).all() and clip > 0):
        raise UserError("its observation statistics are not finite numbers")
    return {"mean": mean, "var": var, "count": count, "clip": clip}
