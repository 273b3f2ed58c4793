"""exp(-t (L + c)) on the span of the features, all of it: no mode is left out, so that short times are right as well.

With a source g, du/dt = -(L + c) u + g, each eigenvector is driven by its part of g; t to infinity is (L + c)^-1 g.

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
class Drive:
    """A function that u begins as and one that drives it, (q,) components each in the basis of a propagator."""

    start: np.ndarray
    source: np.ndarray


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
    conserved : whether nothing is killed or stopped: constants stay, and the slowest eigenvector is theirs
    """

    basis: np.ndarray
    right: np.ndarray
    left: np.ndarray
    exponents: np.ndarray
    eigenvalues: np.ndarray
    lag: float
    rejected: int
    conserved: bool = False

    @classmethod
    def of(
        cls,
        gram: np.ndarray,
        operator: np.ndarray,
        lag: float,
        regularization: float,
        least: float,
        constant: bool = True,
        conserved: bool = False,
    ) -> Propagator:
        """From the means of z z^T and of z (operator z)^T.

        Parameters
        ----------
        lag : of the operator, 0 for a generator
        regularization : a function is left out that adds less variance than this fraction of the norm of all
        least : lower bound of the killing rate, below which no rate can be
        constant : whether the first feature is the constant
        conserved : see the class
        """
        basis = orthonormal(gram, regularization) if constant else _independent(gram, regularization)[1]
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
            right[:, sound].astype(complex, copy=False),
            left[sound].astype(complex, copy=False),
            exponents[sound],
            values[sound].astype(complex),
            lag,
            int((~sound).sum()),
            conserved,
        )

    def project(self, products: np.ndarray) -> np.ndarray:
        """(q,) components in the basis of a function with means (P,) of its products with z."""
        return self.basis.T @ products

    def drive(self, start: np.ndarray, source: np.ndarray | None = None) -> Drive:
        """The drive of two functions with means (P,) of their products with z; source None for none."""
        return Drive(self.project(start), self.project(0 * start if source is None else source))

    def forward(self, drive: Drive, times: np.ndarray, image: bool = False) -> np.ndarray:
        """(P, times) coefficients of u at the times, infinity among them; or of what the operator makes of it."""
        weights = (self.left @ drive.start)[:, None] * self._grown(times)
        weights += (self.left @ drive.source)[:, None] * self._accumulated(times)
        if image:
            weights = self.eigenvalues[:, None] * weights
        return self.basis @ _real_product(self.right, weights)

    def backward(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(P, times) coefficients of the densities l(t) that mean features (P,) of the starts have after times t."""
        return self._backward(features, self._grown(times))

    def backward_sum(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(P, times) coefficients of the integrals of l from 0 to t."""
        return self._backward(features, self._accumulated(times))

    def backward_steps(self, features: np.ndarray) -> np.ndarray:
        """(P, 1) coefficients of the sum of l over all steps of the operator; its integral for a generator."""
        return self._backward(features, self._steps[:, None])

    def _backward(self, features: np.ndarray, growth: np.ndarray) -> np.ndarray:
        weights = (self.right.T @ (self.basis.T @ features))[:, None] * growth
        return self.basis @ _real_product(self.left.T, weights)

    def stationary(self) -> np.ndarray:
        """(P, 1) coefficients of the density of the invariant law, where constants stay."""
        k = self.slowest
        left, right = self.left[k].real, self.right[:, k].real
        return (self.basis @ (left * right[0]))[:, None]

    def summed_twice(self, drive: Drive, image: bool = False) -> np.ndarray:
        """(P, 1) coefficients of minus the sum over all steps of the steady u, or of what the operator makes of it."""
        weights = -self._steps * (self.left @ drive.source) * self._accumulated(np.array([np.inf]))[:, 0]
        if image:
            weights = self.eigenvalues * weights
        return (self.basis @ (self.right @ weights).real)[:, None]

    def shifted(self, features: np.ndarray, drive: Drive, times: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """(times,) by how much u at starts with mean features (P,) moves when each rate moves by its error (q,).

        All rates in the same direction, as a time step moves them, or each by itself, whichever is more.
        """
        finite = np.where(np.isinf(times), 0.0, times)
        safe = np.where(self.exponents == 0, 1.0, self.exponents)[:, None]
        grown, summed = self._grown(times), self._accumulated(times)
        slopes = (self.left @ drive.start)[:, None] * finite * grown
        slopes += (self.left @ drive.source)[:, None] * (finite * grown - summed) / safe
        moved = (features @ self.basis @ self.right * errors)[:, None] * slopes
        return np.maximum(np.abs(moved.sum(axis=0).real), np.sqrt((np.abs(moved) ** 2).sum(axis=0)))

    @property
    def _steps(self) -> np.ndarray:
        """(q,) sums of the powers of the eigenvalues of the operator of a lag, or -1 / those of a generator."""
        ends = 1 - self.eigenvalues if self.lag else -self.eigenvalues
        found = 1 / np.where(ends == 0, 1.0, ends)
        if self.conserved:
            found[self.slowest] = 0.0
        return found

    def _grown(self, times: np.ndarray) -> np.ndarray:
        """(q, times) exp(B t), nothing for t = infinity."""
        finite = np.isfinite(times)
        return np.where(finite, np.exp(np.outer(self.exponents, np.where(finite, times, 0.0))), 0.0)

    def _accumulated(self, times: np.ndarray) -> np.ndarray:
        """(q, times) integrals of exp(B s) from 0 to t; of constants to infinity nothing, they are taken off g."""
        finite = np.isfinite(times)
        time = np.where(finite, times, 0.0)
        x = np.outer(self.exponents, time)
        small = np.abs(x) < 1e-9
        found = time * np.where(small, 1.0, np.expm1(x) / np.where(small, 1.0, x))
        steady = -1 / np.where(self.exponents == 0, 1.0, self.exponents)
        if self.conserved:
            steady[self.slowest] = 0.0
        return np.where(finite, found, steady[:, None])

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


def _real_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Real part of a product of complex matrices, in half of its multiplications."""
    parts = [np.ascontiguousarray(part) for part in (left.real, right.real, left.imag, right.imag)]
    return parts[0] @ parts[1] - parts[2] @ parts[3]


def orthonormal(gram: np.ndarray, regularization: float) -> np.ndarray:
    """(P, q) coefficients of an orthonormal basis of the span of features with means (P, P) of their products.

    The first feature is the constant, and the first function of the basis too.
    """
    if len(gram) == 1:
        return np.ones((1, 1))
    mean = gram[0, 1:]
    kept, inner = _independent(gram[1:, 1:] - np.outer(mean, mean), regularization, gram.diagonal()[1:])
    basis = np.zeros((len(gram), 1 + len(kept)))
    basis[0, 0] = 1.0
    basis[1:, 1:] = inner
    basis[0, 1:] = -mean @ inner
    return basis


def _independent(gram: np.ndarray, regularization: float, sizes: np.ndarray | None = None) -> tuple:
    """Features that are kept, and (P, q) coefficients of an orthonormal basis of their span.

    Parameters
    ----------
    sizes : (P,) what is rounding is small against; None for the diagonal of gram
    """
    diagonal = gram.diagonal()
    sizes = np.full(len(gram), diagonal.max(initial=0.0)) if sizes is None else sizes
    scale = np.sqrt(np.where(diagonal > 1e-14 * np.maximum(sizes, 1e-300), np.maximum(diagonal, 0.0), np.inf))
    scaled = gram / np.outer(scale, scale)
    factor = LocalFactor(np.ascontiguousarray(scaled), regularization * np.linalg.norm(scaled))
    kept = factor.pivots
    basis = np.zeros((len(gram), len(kept)))
    basis[kept] = factor.solve(np.eye(len(kept))) / scale[kept][:, None]
    return kept, basis
