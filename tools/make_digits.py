"""Makes src/ornstein/data/digits.npz from scikit-learn's copy of the data set: `python tools/make_digits.py`."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TARGET = Path(__file__).parents[1] / "src" / "ornstein" / "data" / "digits.npz"

digits = load_digits()
np.savez_compressed(
    TARGET,
    x=digits.images.astype(np.uint8),
    y=digits.target.astype(np.uint8),
    low=np.uint8(0),
    high=np.uint8(16),
    classes=np.array([str(name) for name in digits.target_names]),
)
print(f"{TARGET}: {len(digits.images)} images")
