"""The 8 x 8 digits that scikit-learn carries: 1797 images of 64 pixels, half of them for training, half held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kswgd_hpc.errors import DataError

TRAINING, HELD_OUT, LABELS = "training.npy", "held_out.npy", "training_labels.npy"
SIDE = 8
_SEED = 20


def write(directory: Path) -> None:
    """Write training and held-out images (n, 64), brightness from 0 to 1, and the training labels.

    Raises
    ------
    DataError : scikit-learn is missing
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "data: digits come with scikit-learn, which is not installed: pip install 'kswgd-hpc[studies]'"
        ) from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.Generator(np.random.Philox(_SEED)).permutation(len(images))
    half = len(images) // 2
    np.save(directory / TRAINING, images[order[half:]] / 16)
    np.save(directory / HELD_OUT, images[order[:half]] / 16)
    np.save(directory / LABELS, labels[order[half:]])
