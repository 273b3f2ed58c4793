"""exp(-t (L + c)) on the span of the features, all of it: no mode is left out, so that short times are right as well.

In an orthonormal basis of the span the operator is B = <chi, (G - c) chi> (for a lag tau A = <chi, K^c chi>, and
B = log(A) / tau). With its eigenvectors u(x, t) = z(x) . a(t), a(t) = V exp(t B) V^-1 f, and the same from the left:
l(t), the features that a start x0 has after a time t, so that u(x0, t) = <l(s), u(., t - s)> for every s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.whitening import LocalFactor

_TOLERANCE = 1e-7  # of growth that no killing allows, relative to the fastest rate


@dataclass(frozen=True)
class Propagator:
    """The operator and its eigenvectors.

    Parameters
    ----------
    basis : (P, q) coefficients of an orthonormal basis, the constant first
    right : (q, q) eigenvectors V; left : (q, q) V^-1
    exponents : (q,) complex: eigenvalues of B, minus the rates
    eigenvalues : (q,) of the operator itself: of B, or of A
    lag : tau, or 0 where the operator is the generator
    rejected : number of eigenvalues that cannot be and were left out, such as growth where nothing grows
    """

    basis: np.ndarray
    right: np.ndarray
    left: np.ndarray
    exponents: np.ndarray
    eigenvalues: np.ndarray
    lag: float
    rejected: int

    @classmethod
    def of(cls, gram: np.ndarray, operator: np.ndarray, lag: float, regularization: float, least: float) -> Propagator:
        """From the means of z z^T and of z (operator z)^T.

        Parameters
        ----------
        lag : of the operator, 0 for a generator
        regularization : a function is left out that adds less variance than this fraction of the norm of all
        least : lower bound of the killing rate, below which no rate can be
        """
        basis = orthonormal(gram, regularization)
        matrix = basis.T @ operator @ basis
        values, right = np.linalg.eig(matrix)
        left = np.linalg.inv(right)
        if lag:
            with np.errstate(divide="ignore"):
                exponents = np.log(values.astype(complex)) / lag
        else:
            exponents = values.astype(complex)
        largest = max(0.0, -least) + _TOLERANCE * np.abs(exponents[np.isfinite(exponents)]).max(initial=0.0)
        sound = np.isfinite(exponents) & (exponents.real <= largest)
        return cls(
            basis,
            right[:, sound].astype(complex),
            left[sound].astype(complex),
            exponents[sound],
            values[sound].astype(complex),
            lag,
            int((~sound).sum()),
        )

    def project(self, products: np.ndarray) -> np.ndarray:
        """(q,) components in the basis of a function with means (P,) of its products with z."""
        return self.basis.T @ products

    def forward(self, components: np.ndarray, times: np.ndarray, derivative: bool = False) -> np.ndarray:
        """(P, times) coefficients of exp(t B) f, f with components (q,); or of its operator's image, see `image`."""
        weights = (self.left @ components)[:, None] * np.exp(np.outer(self.exponents, times))
        if derivative:
            weights = self.eigenvalues[:, None] * weights
        return self.basis @ (self.right @ weights).real

    def backward(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(P, times) coefficients of the densities l(t) that mean features (P,) of the starts have after times t."""
        weights = (self.right.T @ (self.basis.T @ features))[:, None] * np.exp(np.outer(self.exponents, times))
        return self.basis @ (self.left.T @ weights).real

    @property
    def slowest(self) -> int:
        """Index of the eigenvalue that survives all others."""
        return int(np.argmax(self.exponents.real))

    @property
    def principal(self) -> np.ndarray:
        """(1,) the smallest rate."""
        return -self.exponents[[self.slowest]].real

    @property
    def rates(self) -> np.ndarray:
        """(q,) complex, minus the exponents, ascending in the real part."""
        return np.sort_complex(-self.exponents)

    @property
    def typical_rate(self) -> float:
        """Median size of the rates: what the span does not resolve decays faster than half of what it does."""
        return float(np.median(np.abs(self.exponents)))


def orthonormal(gram: np.ndarray, regularization: float) -> np.ndarray:
    """(P, q) coefficients of an orthonormal basis of the span of features with means (P, P) of their products.

    The first feature is the constant, and the first function of the basis too.
    """
    if len(gram) == 1:
        return np.ones((1, 1))
    mean = gram[0, 1:]
    centred = gram[1:, 1:] - np.outer(mean, mean)
    variance = np.maximum(centred.diagonal(), 0.0)
    scale = np.sqrt(np.where(variance > 1e-14 * np.maximum(gram.diagonal()[1:], 1e-300), variance, np.inf))
    centred = centred / np.outer(scale, scale)
    factor = LocalFactor(np.ascontiguousarray(centred), regularization * np.linalg.norm(centred))
    kept = factor.pivots
    inverse = factor.solve(np.eye(len(kept)))
    basis = np.zeros((len(gram), 1 + len(kept)))
    basis[0, 0] = 1.0
    basis[1 + kept, 1:] = inverse / scale[kept][:, None]
    basis[0, 1:] = -mean @ basis[1:, 1:]
    return basis
