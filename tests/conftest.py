"""Shared settings of the tests: one thread per worker, seeded torch, quiet hypothesis deadlines."""

import os
from importlib.util import find_spec

import pytest
import torch

torch.set_num_threads(1)
if find_spec("hypothesis"):  # the checks of a GPU run without it
    from hypothesis import settings

    settings.register_profile(
        "ornstein", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "25")), derandomize=True
    )
    settings.load_profile("ornstein")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
