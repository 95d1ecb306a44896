"""A scheduler's configuration as a convention: which path, what is predicted, and how the network counts time.

β-tables: x_t = √ᾱ_i·x + √(1 − ᾱ_i)·ε at step i = T·t − 1. Flow matching: x_t = (1 − σ)·x + σ·ε at timestep T·σ, where the shift f
is a change of the clock, σ = f·t/(1 + (f − 1)·t). EDM: x + σ·ε at timestep ¼·ln σ, inside its preconditioning.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from ornstein.errors import UsageError, brief
from ornstein.interop import edm
from ornstein.interop.convention import Call, Convention, NoiseClock, TimeClock, positional
from ornstein.names import pick
from ornstein.path import Betas, Linear, Shift, TimeChange
from ornstein.target import Clean, Combination, Noise, Target, V

PREDICTIONS: dict[str, Target] = {"epsilon": Noise(), "v_prediction": V(), "sample": Clean()}
FLOW = "flow_prediction"
MOST_STEPS = 100_000
TABLE = ("beta_schedule", "beta_start", "beta_end")
"""What the configuration of a scheduler of β-tables says, at least in part."""


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of flow matching: by what it predicts, its class, or keys that only those have."""
    said = config.get("prediction_type") == FLOW or bool(config.get("use_flow_sigmas"))
    named = str(config.get("_class_name", "")).startswith("FlowMatch")
    return said or named or ("shift" in config and not {"beta_schedule", "trained_betas", "sigma_data"} & config.keys())


def is_edm(config: Mapping[str, Any]) -> bool:
    """Whether it is one of EDM: those have a sigma_data."""
    return "sigma_data" in config and not is_flow(config)


def shift_of(config: Mapping[str, Any]) -> float:
    """The static shift of a flow."""
    return float(config.get("shift") or config.get("flow_shift") or 1.0)


def must_be_known(config: Mapping[str, Any]) -> None:
    """Raises UsageError for a scheduler whose networks are trained on no β-table, flow or EDM levels, such as score_sde's VE.

    `clip_denoised` is of consistency models alone, which answer with an end of the ODE; `snr_shift_scale` shifts a table.
    """
    flows, tables = str(config.get("_class_name", "")).startswith("FlowMatch"), [key for key in TABLE if key in config]
    if flows and tables:
        raise UsageError(
            f"{tables[0]}: {brief(config[tables[0]])} is of a β-table, but {config['_class_name']} is of flows; give the "
            "configuration that the model was trained with"
        )
    other = not (
        is_flow(config) or is_edm(config) or any(key in config for key in TABLE) or config.get("trained_betas")
    )
    marks = config.keys() & {"_class_name", "_use_default_values", "sigma_min", "sigma_max", "trained_betas"}
    shifted = config.get("snr_shift_scale", 1.0) != 1.0
    if (other and marks) or "clip_denoised" in config or shifted or config.get("_class_name") == "IPNDMScheduler":
        name = brief(config.get("_class_name", "this scheduler")).strip("'")
        raise UsageError(
            f"{name}: what its networks see and predict is no β-table, flow or EDM level as this library reads them; say their "
            "convention (`ornstein import --convention`, or interop.wrap), or give the scheduler that they were trained with"
        )


def convention(
    config: Mapping[str, Any], call: Call = positional, *, variance: bool = False, discrete: bool = False
) -> Convention:
    """The convention of a network that was trained with this scheduler's configuration.

    Raises UsageError for a scheduler, a table or a kind of prediction that it does not know.
    """
    must_be_known(config)
    total = _steps(config)
    if is_flow(config):
        shift = shift_of(config)
        path = Linear() if shift == 1 else TimeChange(Linear(), Shift(shift))
        return Convention(path, Combination(-1.0, 1.0), NoiseClock(total), call, variance)
    kind = str(config.get("prediction_type", "epsilon"))
    if is_edm(config):
        if kind != "epsilon":
            raise UsageError(f"prediction_type: an EDM configuration with {kind!r} is not supported, only 'epsilon'")
        base = edm.raw(float(config["sigma_data"]), float(config.get("sigma_max", 80.0)))
        return Convention(base.path, base.target, base.clock, call, variance)
    table = betas(config)
    return Convention(
        table,
        pick("prediction_type", kind, PREDICTIONS),
        TimeClock(table.steps, -1.0),
        call,
        variance,
        levels=table.steps,
        discrete=discrete,
    )


def betas(config: Mapping[str, Any]) -> Betas:
    """The β-table of a configuration, computed in float32 as diffusers does. Raises UsageError for one that it does not know."""
    trained = config.get("trained_betas")
    return _table(
        None if trained is None else tuple(float(beta) for beta in trained),
        str(config.get("beta_schedule", "linear")),
        _steps(config),
        float(config.get("beta_start", 1e-4)),
        float(config.get("beta_end", 0.02)),
        bool(config.get("rescale_betas_zero_snr", False)),
    )


def _steps(config: Mapping[str, Any]) -> int:
    """The number of trained steps. Raises UsageError for what no table has."""
    total = config.get("num_train_timesteps", 1000)
    if type(total) is not int or not 0 < total <= MOST_STEPS:
        raise UsageError(
            f"num_train_timesteps: {brief(total)} is no number of steps of a table; give 1 to {MOST_STEPS}"
        )
    return total


@lru_cache(maxsize=16)
def _table(
    trained: tuple[float, ...] | None, kind: str, total: int, first: float, last: float, rescaled: bool
) -> Betas:
    if trained is not None:
        path = Betas(torch.tensor(trained, dtype=torch.float32))
    elif kind == "linear":
        path = Betas(torch.linspace(first, last, total, dtype=torch.float32))
    elif kind == "scaled_linear":
        path = Betas(torch.linspace(first**0.5, last**0.5, total, dtype=torch.float32) ** 2)
    elif kind == "squaredcos_cap_v2":
        path = Betas.squared_cosine(total)
    elif kind == "sigmoid":
        path = Betas(torch.linspace(-6, 6, total).sigmoid() * (last - first) + first)
    else:
        raise UsageError(
            f"beta_schedule: {kind[:80]!r} is not one of linear, scaled_linear, squaredcos_cap_v2, sigmoid; give its numbers as "
            "trained_betas"
        )
    return path.zero_terminal_snr() if rescaled else path
