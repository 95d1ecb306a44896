"""What runs of earlier versions call things: their files are read as if they had been written today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {"Picture": "ImageCondition"}  # kinds of conditions
KEYS = {"task": "degradation"}  # of conditions
ARGUMENTS = {"picture": "image"}  # of networks


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """model/config.json with the names of today. Raises TypeError, ValueError, KeyError or AttributeError for what is none."""
    conditions = [
        {KEYS.get(key, key): TYPES.get(value, value) if key == "type" else value for key, value in condition.items()}
        for condition in config.get("conditions", ())
    ]
    network = {ARGUMENTS.get(key, key): value for key, value in config["network"].items()}
    return {**config, "conditions": conditions, "network": network}
