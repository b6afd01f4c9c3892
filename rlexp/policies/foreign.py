"""Policies that other programs saved."""

from collections.abc import Mapping
from pathlib import Path

import torch

from rlexp.envs.spec import EnvSpec
from rlexp.nn.actors import Actor, GaussianActor, make_actor
from rlexp.util.errors import UserError


def actor_from_state_dict(path: Path, env: EnvSpec, activation: str) -> Actor:
    """An actor from a plain PyTorch state_dict: the weight matrices are an MLP's layers in the file's order, a tensor
    named *std* the log standard deviations. A file holds no activations: they are `policy.activation`. Raises UserError
    for what cannot be read, or is another network."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's many errors, refusals to execute code among them
        raise UserError(f"{path}: cannot be read as a state_dict ({' '.join(str(error).split())[:150]})") from None
    if not isinstance(tensors, Mapping) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise UserError(f"{path}: is not a state_dict, a mapping of names to tensors")
    layers = {name: t for name, t in tensors.items() if t.ndim == 2 and name.endswith("weight")}
    biases = [name.removesuffix("weight") + "bias" for name in layers]
    stds = [name for name, t in tensors.items() if "std" in name and t.numel() == env.n_actions]
    widths = [env.obs_dim, *(len(t) for t in layers.values())]
    chained = [t.shape[1] for t in layers.values()] == widths[:-1] and widths[-1] == env.n_actions
    wanted = {*layers, *biases}
    stds_needed = 0
    also = ""
    if env.kind == "continuous":
        wanted.update(stds)
        stds_needed = 1
        also = " and one log std"
    right_stds = len(stds) == 1 or not stds_needed
    if not layers or not chained or wanted != set(tensors) or not right_stds:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise UserError(
            f"{path}: is not an MLP from {env.obs_dim} observations to {env.n_actions} actions{also}; it holds {shapes}"
        )
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        actor = make_actor(env.kind, env.obs_dim, env.n_actions, hidden=widths[1:-1], activation=activation)
    linear = [module for module in actor.body if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for module, name, bias in zip(linear, layers, biases, strict=True):
            module.weight.copy_(tensors[name])
            module.bias.copy_(tensors[bias])
        if isinstance(actor, GaussianActor):
            actor.log_std.copy_(tensors[stds[0]].reshape(-1))
    return actor
