"""Names of earlier versions: files of their runs are read with the names of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {"Picture": "ImageCondition"}  # kinds of conditions
KEYS = {"task": "degradation"}  # of conditions
DEGRADATIONS = {"Mask": "RandomMask"}  # kinds of degradations
ARGUMENTS = {"picture": "image"}  # of networks
SETTINGS = {"given": ("degradation", ("low-res", "grey", "mask"))}  # of trainings, by what the value begins with
MODEL = 3  # of model/config.json
READABLE = 2, 3
SINUSOIDS = [0.1, 1000.0]  # frequencies of the features of time in networks of format 2


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """model/config.json with the names of today. Raises TypeError, ValueError, KeyError or AttributeError for what is none."""
    conditions = [_condition(condition) for condition in config.get("conditions", ())]
    network = {ARGUMENTS.get(key, key): value for key, value in config["network"].items()}
    if config.get("format") == 2 and network.get("own") is not True:
        network.setdefault("frequencies", SINUSOIDS)
    return {**config, "conditions": conditions, "network": network}


def _condition(values: Mapping[str, Any]) -> dict[str, Any]:
    values = {KEYS.get(key, key): value for key, value in values.items()}
    values["type"] = TYPES.get(values["type"], values["type"])
    if isinstance(degradation := values.get("degradation"), Mapping):
        kind = degradation["type"]
        values["degradation"] = {**degradation, "type": DEGRADATIONS.get(kind, kind)}
    return values


def upgraded_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """A run folder's config.yaml, with what runs of earlier versions did and did not have a name for."""
    values = renamed(values)
    named = values.get("network") in ("unet", "dit", "mlp")
    return {"time_features": "ddpm", **values} if named and "time_features" not in values else dict(values)


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the names of today in place of those of earlier versions."""
    return {_setting(key, value): value for key, value in values.items()}


def _setting(key: str, value: Any) -> str:
    name, words = SETTINGS.get(key, (key, ()))
    return name if isinstance(value, str) and value.partition(":")[0] in words else key
