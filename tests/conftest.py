"""Shared settings of the tests: one thread per worker, seeded torch, quiet hypothesis deadlines."""

import os

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile(
    "ornstein", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "25")), derandomize=True
)
settings.load_profile("ornstein")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
