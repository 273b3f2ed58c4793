"""The 8 x 8 digits that scikit-learn carries: 1797 images of 64 pixels, half of them for training, half held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kswgd_hpc.errors import DataError

TRAINING, HELD_OUT, LABELS, START = "training.npy", "held_out.npy", "training_labels.npy", "start.npy"
SIDE = 8
COMPONENTS = 24  # that hold 94 % of the variance
_SEED = 20
_STARTS = 4096


def write(directory: Path) -> None:
    """Write training and held-out images (n, 64), brightness 0 to 1, the training labels, and states to start from.

    Those are Gaussian noise of the training images' mean and covariance in their principal components, in which no
    digit can be read.

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
    generator = np.random.Generator(np.random.Philox(_SEED))
    order = generator.permutation(len(images))
    half = len(images) // 2
    training = images[order[half:]] / 16
    values, vectors = (part[..., -COMPONENTS:] for part in np.linalg.eigh(np.cov(training.T)))
    noise = generator.standard_normal((_STARTS, COMPONENTS)) * np.sqrt(values)
    np.save(directory / START, training.mean(axis=0) + noise @ vectors.T)
    np.save(directory / TRAINING, training)
    np.save(directory / HELD_OUT, images[order[:half]] / 16)
    np.save(directory / LABELS, labels[order[half:]])
