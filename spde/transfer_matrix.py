"""Invariant law of one-dimensional gradient SPDEs on a grid, by transfer matrix: deterministic, to ten digits.

du = (nu u_xx - V'(u)) dt + sigma dW with space-time white noise, by finite differences of spacing dx, has the law

    pi(u) ~ exp( -(2 / sigma^2) dx [ sum_bonds nu/2 ((u_{i+1} - u_i) / dx)^2 + sum_sites V(u_i) ] ),            (1)

a chain in which each site sees its neighbours only. Integrating out one site after the other is the transfer operator

    (T f)(u) = int sqrt(w(u)) exp(-(u - v)^2 / (2 s^2)) sqrt(w(v)) f(v) dv,
    w = exp(-(2 / sigma^2) dx V),    s^2 = sigma^2 dx / (2 nu),                                                  (2)

symmetric and positive. Nodes are equidistant: for analytic functions that vanish at both ends the trapezoidal rule
converges faster than any power of the step, and the operator is a narrow band matrix. Chains (Neumann, Dirichlet) are
swept by products with it, rings (periodic) use its eigenvalues.

What comes out is the law on this grid, which is what a simulation on this grid has to reproduce. As dx -> 0 it tends
to the law of the continuum, exp(-dx H) with the Schroedinger operator H = -(sigma^2 / (4 nu)) d^2/du^2 + 2 V / sigma^2.

Source: Scalapino, Sears and Ferrell 1972 (transfer operator); Trefethen and Weideman 2014 (trapezoidal rule).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse

from spde.chains import (
    BAND,
    FINE,
    STENCIL,
    band,
    chained,
    collective_range,
    draw_site,
    gauss_pieces,
    power_of_nearly_one,
    scaled,
)
from spde.errors import SpdeError
from spde.expressions import Expression
from spde.mean_law import MeanLaw

Boundary = Literal["neumann", "dirichlet", "periodic"]
Pointwise = Callable[[np.ndarray], np.ndarray]

_STEP = 0.65  # in units of s; the trapezoidal rule then errs by exp(-2 pi^2 / _STEP^2) = 5e-21 per bond
_PINNED_STEP = 0.5  # where a site sits between two given values, by exp(-pi^2 / _PINNED_STEP^2) = 7e-18
_COARSER = 1.2  # the nodes to compare with: 8e-15 per bond
_REFINEMENTS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.12, 0.06)  # of the step, where the potential needs it
_EDGE = 1e-20  # density of a site at the ends of the nodes, relative to its peak
_COARSER_EDGE = 1e-16
_MAX_NODES = 4096
_CHUNK_BYTES = 2**28


def potential_of_reaction(text: str, parameters: Mapping[str, float] | None = None) -> Pointwise:
    """V(u) = -int_0^u r from an expression of the reaction r, by Gauss quadrature; nan where that fails."""
    reaction = _pointwise(text, parameters)
    rules = [np.polynomial.legendre.leggauss(count) for count in (80, 120)]

    def integral(u: np.ndarray) -> np.ndarray:
        u = np.asarray(u, dtype=float)
        coarse, fine = (-u / 2 * (reaction(u[..., None] * (nodes + 1) / 2) @ weights) for nodes, weights in rules)
        return np.where(np.abs(fine - coarse) <= 1e-11 * np.maximum(1, np.abs(fine)), fine, np.nan)

    return integral


def _pointwise(text: str, parameters: Mapping[str, float] | None) -> Pointwise:
    values = {name: np.float64(value) for name, value in (parameters or {}).items()}
    expression = Expression(text, ("u", *values))
    return lambda u: np.broadcast_to(expression({"u": u, **values}), np.shape(u))


def invariant_law(
    potential: Pointwise | str,
    length: float,
    points: int,
    boundary: Boundary = "neumann",
    diffusivity: float = 1.0,
    amplitude: float = 1.0,
    parameters: Mapping[str, float] | None = None,
    tolerance: float = 1e-10,
) -> InvariantLaw:
    """Law (1), on nodes that are wide and dense enough.

    Parameters
    ----------
    potential : V, smooth: a function of arrays, or an expression in u and the named parameters; where the reaction
        is given instead, see `potential_of_reaction`
    length : of the interval
    points : number of sites n
    boundary : neumann (cell centred, dx = L / n), dirichlet (interior points, 0 outside, dx = L / (n + 1)) or
        periodic (dx = L / n)
    diffusivity : nu > 0
    amplitude : sigma > 0 of space-time white noise
    parameters : values of the names in the expression
    tolerance : relative error allowed in the normalisation and in <u^2> and <u^4> of every site

    Raises
    ------
    SpdeError : when the potential does not confine the field, or the nodes needed are too many
    ExpressionError : when the expression is malformed
    """
    if isinstance(potential, str):
        potential = _pointwise(potential, parameters)
    for name, value in (("length", length), ("diffusivity", diffusivity), ("amplitude", amplitude)):
        if not (np.isfinite(value) and value > 0):
            raise SpdeError(f"the invariant law needs a {name} > 0, found {value}")
    if boundary not in ("neumann", "dirichlet", "periodic"):
        raise SpdeError(f"boundary {boundary!r} is not one of neumann, dirichlet, periodic")
    if points < (2 if boundary == "periodic" else 1):
        raise SpdeError(f"the invariant law needs at least {2 if boundary == 'periodic' else 1} points, found {points}")
    law = _confined(InvariantLaw(potential, length, points, boundary, diffusivity, amplitude, 0.0, 0.0, 1.0))
    pinned = boundary == "dirichlet" or points == 2
    step = min((_PINNED_STEP if pinned else _STEP) * law.stiffness_length, (law.high - law.low) / 128)
    for refinement in _REFINEMENTS:
        law = replace(law, step=step * refinement)
        if law.error <= tolerance:
            return law
    raise SpdeError(
        f"{len(law.nodes)} quadrature nodes give a relative error of {law.error:.1e}, expected {tolerance:.1e}: "
        "smooth the potential or allow a larger tolerance"
    )


@dataclass(frozen=True, eq=False)
class InvariantLaw:
    """Law (1) on given quadrature nodes; made by `invariant_law`, which chooses them.

    Sites are counted from 0. All results are floats or arrays; `with_error` gives any of them with an error estimate.
    """

    potential: Pointwise
    length: float
    points: int
    boundary: Boundary
    diffusivity: float
    amplitude: float
    low: float
    high: float
    step: float

    # quadrature

    @cached_property
    def spacing(self) -> float:
        """dx between sites."""
        return self.length / (self.points + (self.boundary == "dirichlet"))

    @cached_property
    def stiffness_length(self) -> float:
        """s of (2): standard deviation of a bond, units of u."""
        return self.amplitude * np.sqrt(self.spacing / (2 * self.diffusivity))

    @cached_property
    def nodes(self) -> np.ndarray:
        """(m,) quadrature nodes, all with weight `step`."""
        count = int(np.ceil((self.high - self.low) / self.step)) + 1
        if count > _MAX_NODES:
            raise SpdeError(
                f"the law needs {count} quadrature nodes, from u = {self.low:.4g} to {self.high:.4g} in steps of "
                f"{self.step:.2g}, more than {_MAX_NODES}: the potential does not confine the field, or the noise is "
                "too weak for so fine a grid"
            )
        return self.low + self.step * np.arange(count)

    @cached_property
    def _ground(self) -> float:
        """Smallest V on the nodes: subtracted so that nothing underflows."""
        return float(self.potential(self.nodes).min())

    def _log_weight(self, u: np.ndarray) -> np.ndarray:
        """log w of (2), at most 0 on the nodes."""
        values = np.asarray(self.potential(u), dtype=float)
        if np.isnan(values).any():
            where = u.flat[int(np.isnan(values).argmax())]
            raise SpdeError(
                f"the potential is not a number at u = {where:.6g}: it must be defined on the whole line, or its "
                "reaction could not be integrated"
            )
        return -2 * self.spacing / self.amplitude**2 * (values - self._ground)

    @cached_property
    def _root_weight(self) -> np.ndarray:
        return np.exp(self._log_weight(self.nodes) / 2)

    @cached_property
    def _transfer(self) -> scipy.sparse.csr_matrix:
        """(m, m) matrix of T, step included."""
        reach = min(int(np.ceil(BAND * self.stiffness_length / self.step)), len(self.nodes) - 1)
        offsets = np.arange(-reach, reach + 1)
        taps = self.step * np.exp(-((offsets * self.step / self.stiffness_length) ** 2) / 2)
        kernel = scipy.sparse.diags(taps, offsets, shape=(len(self.nodes),) * 2)
        root = scipy.sparse.diags(self._root_weight)
        return (root @ kernel @ root).tocsr()

    def _end(self, u: np.ndarray) -> np.ndarray:
        """Log of what the boundary multiplies the first and the last site with."""
        return -((u / self.stiffness_length) ** 2) / 2 if self.boundary == "dirichlet" else np.zeros_like(u)

    @cached_property
    def _left(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, m) T^i a, a the end's factor times sqrt(w), each scaled to about 1; (n,) logs of the scales."""
        vectors, exponents = self._sweep((self._root_weight * np.exp(self._end(self.nodes)))[:, None])
        return vectors[:, :, 0], exponents[:, 0] * np.log(2)

    def _sweep(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, m, c) powers of T on columns (m, c), divided by powers of two; (n, c) exponents of those."""
        vectors = np.empty((self.points, *start.shape))
        exponents = np.empty((self.points, start.shape[1]), dtype=int)
        vectors[0], exponents[0] = scaled(start, np.zeros(start.shape[1], dtype=int))
        for i in range(1, self.points):
            vectors[i], exponents[i] = scaled(self._transfer @ vectors[i - 1], exponents[i - 1])
        return vectors, exponents

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Eigenvalues of T over the largest, descending; eigenvectors in columns; log of the largest."""
        _, vectors = scipy.linalg.eigh(self._transfer.toarray(), driver="evd")
        rows = np.ascontiguousarray(vectors.T[::-1])
        # Rayleigh quotients, summed pairwise: n-th powers are taken of these numbers
        values = np.sum(rows * np.ascontiguousarray((self._transfer @ rows.T).T), axis=1)
        values, vectors = values / np.sum(rows**2, axis=1), rows.T
        return np.clip(values / values[0], 0, 1), vectors, float(np.log(values[0]))

    @property
    def _is_ring(self) -> bool:
        return self.boundary == "periodic"

    # errors

    @cached_property
    def coarser(self) -> InvariantLaw:
        """The same law on fewer and wider nodes, to compare with."""
        peak = (self._marginals / self._marginals.max(axis=1, keepdims=True)).max(axis=0)
        inside = self.nodes[peak > _COARSER_EDGE]
        return replace(self, low=inside[0], high=inside[-1], step=self.step * _COARSER)

    def with_error(self, quantity: Callable[[InvariantLaw], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """quantity(law) and its error: the change on fewer nodes, and rounding.

        For example `law.with_error(lambda law: law.moment(2))`.
        """
        value, other = np.asarray(quantity(self)), np.asarray(quantity(self.coarser))
        rounding = np.finfo(float).eps * self.points
        return value, np.abs(value - other) + rounding * np.abs(value)

    @cached_property
    def error(self) -> float:
        """Relative error of the normalisation, <u^2> and <u^4>, the largest of all sites."""
        other = self.coarser
        moments = [np.abs(other.moment(k) / self.moment(k) - 1).max() for k in (2, 4)]
        return max(abs(other.log_partition - self.log_partition), *moments)

    # normalisation

    @cached_property
    def log_partition(self) -> float:
        """log of the integral of the exponential in (1) over all n values."""
        constant = -2 * self.spacing * self.points * self._ground / self.amplitude**2
        if self._is_ring:
            values, _, log = self._spectrum
            return constant + self.points * log + float(np.log(np.sum(values**self.points)))
        left, logs = self._left
        return constant + float(np.log(self.step * (left[0] @ left[-1])) + logs[0] + logs[-1])

    @property
    def free_energy(self) -> float:
        """-(sigma^2 / 2) log_partition, the units of the bracket in (1)."""
        return -(self.amplitude**2) / 2 * self.log_partition

    # single sites

    @cached_property
    def _marginals(self) -> np.ndarray:
        """(n, m) probabilities of the nodes at each site; (1, m) on a ring, where all sites are alike."""
        if self._is_ring:
            values, vectors, _ = self._spectrum
            weights = (vectors**2) @ values**self.points
            return np.maximum(weights, 0)[None] / weights.sum()
        left, _ = self._left
        product = left * left[::-1]
        return product / product.sum(axis=1, keepdims=True)

    def _every_site(self, array: np.ndarray) -> np.ndarray:
        return np.repeat(array, self.points, axis=0) if self._is_ring else array

    def site_density(self, u: np.ndarray) -> np.ndarray:
        """(n, k) probability density of each site at values u (k,); its mean over sites is that of the whole field."""
        u = np.asarray(u, dtype=float)
        root = np.exp(self._log_weight(u) / 2)
        kernel = np.exp(-(((u[:, None] - self.nodes) / self.stiffness_length) ** 2) / 2)
        onto = root[:, None] * kernel * (self._root_weight * self.step)
        if self._is_ring:
            values, vectors, log = self._spectrum
            density = (onto @ vectors) ** 2 @ values ** (self.points - 2)
            density *= np.exp(-2 * log) / (self.step * np.sum(values**self.points))
            return self._every_site(density[None])
        left, logs = self._left
        arrived = np.empty((self.points, len(u)))
        arrived[0] = root * np.exp(self._end(u) - logs[0])
        arrived[1:] = left[:-1] @ onto.T * np.exp(-np.diff(logs))[:, None]
        return arrived * arrived[::-1] / (self.step * np.sum(left * left[::-1], axis=1, keepdims=True))

    def expectation(self, function: Pointwise, breaks: Sequence[float] = ()) -> np.ndarray:
        """(n,) mean of g(u_i) at each site; `.mean()` of it is that of the spatial mean of g(u).

        Parameters
        ----------
        function : g, of arrays
        breaks : where g or a derivative jumps; between them g must be smooth
        """
        if len(breaks) == 0:
            return self._every_site(self._marginals @ function(self.nodes))
        u, weights = gauss_pieces(np.clip([self.low, *sorted(breaks), self.high], self.low, self.high), self.step)
        return self.site_density(u) @ (weights * function(u))

    def moment(self, order: int) -> np.ndarray:
        """(n,) <u_i^order> of each site."""
        return self.expectation(lambda u: u**order)

    # pairs of sites

    @cached_property
    def correlation(self) -> np.ndarray:
        """(n, n) two-point correlation <u_i u_j>."""
        values, vectors, log = self._spectrum
        n = self.points
        if self._is_ring:
            elements = (vectors.T @ (self.nodes[:, None] * vectors)) ** 2
            powers = values ** np.arange(n + 1)[:, None]
            row = np.sum((powers[n - np.arange(n)] @ elements) * powers[:n], axis=1) / powers[n].sum()
            return scipy.linalg.toeplitz(row)
        left, logs = self._left
        modes = (self.nodes * left) @ vectors  # (n, m) u T^i a in the eigenbasis
        growth = np.exp(logs - np.arange(n) * log)
        rows = modes * growth[:, None]
        norm = left[0] @ left[-1] * growth[-1] * np.exp(logs[0])
        return chained(rows, rows[::-1], values) / norm

    @cached_property
    def covariance(self) -> np.ndarray:
        """(n, n) Cov[u_i, u_j]."""
        mean = self.moment(1)
        return self.correlation - np.outer(mean, mean)

    @cached_property
    def mode_variances(self) -> np.ndarray:
        """(n,) variances of the coefficients in the orthonormal Laplacian eigenbasis, wavenumbers ascending.

        Neumann cosines, Dirichlet sines, periodic 1, cos, sin, cos, ...: e_j with dx sum_i e_j(x_i)^2 = 1.
        """
        n = self.points
        if self._is_ring:
            spectrum = np.fft.rfft(self.covariance[0]).real
            variances = np.repeat(spectrum, 2)[1:]
            return self.spacing * variances[:n]
        from scipy import fft  # of no use to a run without exact draws

        transform = fft.dct if self.boundary == "neumann" else fft.dst
        kind = 2 if self.boundary == "neumann" else 1
        half = transform(self.covariance, kind, axis=0, norm="ortho")
        return self.spacing * np.diag(transform(half, kind, axis=1, norm="ortho"))

    @cached_property
    def structure_factor(self) -> np.ndarray:
        """S(k), variance of (1/L) int u(x) e_k(x) dx with e_k = cos(k pi x / L), k = 0, 1, ... (Neumann),
        sin(k pi x / L), k = 1, 2, ... (Dirichlet), exp(2 pi i k x / L), k = 0 ... n/2 (periodic)."""
        if self._is_ring:
            return self.mode_variances[np.r_[0, 1 : self.points : 2]] / self.length
        weights = np.full(self.points, 0.5)
        weights[0] = 1.0 if self.boundary == "neumann" else 0.5
        return self.mode_variances * weights / self.length

    @cached_property
    def energy(self) -> tuple[float, float]:
        """Means of int nu/2 u_x^2 dx and of int V(u) dx, as the sums in (1)."""
        distance = self._transfer.tocoo()
        distance.data = distance.data * (self.nodes[distance.row] - self.nodes[distance.col]) ** 2
        distance = distance.tocsr()
        if self._is_ring:
            values, vectors, log = self._spectrum
            bond = np.sum(vectors * (distance @ vectors), axis=0) @ values ** (self.points - 1)
            squares = self.points * bond / np.exp(log) / np.sum(values**self.points)
        else:
            left, _ = self._left
            ahead, behind = left[-2::-1].T, left[:-1].T  # of the bonds (i, i + 1)
            bonds = np.sum(behind * (distance @ ahead), axis=0) / np.sum(behind * (self._transfer @ ahead), axis=0)
            ends = self.moment(2)[[0, -1]].sum() if self.boundary == "dirichlet" else 0.0
            squares = bonds.sum() + ends
        gradient = self.diffusivity / (2 * self.spacing) * squares
        return float(gradient), float(self.spacing * self.expectation(self.potential).sum())

    # whole fields

    def probability_inside(self, intervals: Sequence[tuple[float, float]]) -> float:
        """Probability that all sites lie in a union of disjoint intervals (a, b); ends may be infinite."""
        pieces = [(max(a, self.low), min(b, self.high)) for a, b in intervals]
        rules = [gauss_pieces(np.array(piece), self.step) for piece in pieces if piece[0] < piece[1]]
        if not rules:
            return 0.0
        u, weights = (np.concatenate(parts) for parts in zip(*rules))
        root = np.sqrt(weights) * np.exp(self._log_weight(u) / 2)
        inside = np.exp(-(((u[:, None] - u) / self.stiffness_length) ** 2) / 2) * root[:, None] * root
        constant = -2 * self.spacing * self.points * self._ground / self.amplitude**2
        if self._is_ring:
            values = np.maximum(scipy.linalg.eigvalsh(inside), 0)
            log = self.points * np.log(values[-1]) + np.log(np.sum((values / values[-1]) ** self.points))
        else:
            inside[inside < 1e-21 * inside.max()] = 0
            chain = scipy.sparse.csr_matrix(inside)
            end = root * np.exp(self._end(u))
            vector, exponent = end, 0
            for _ in range(self.points - 1):
                vector, exponent = scaled(vector, exponent)
                vector = chain @ vector
            log = np.log(end @ vector) + exponent * np.log(2)
        return float(np.exp(log + constant - self.log_partition))

    @cached_property
    def spatial_mean(self) -> MeanLaw:
        """Law of (1/L) sum_i u_i dx, from its characteristic function."""
        share = self.points * self.spacing / self.length
        low, period = share * self.nodes[0], share * (self.nodes[-1] - self.nodes[0])
        frequency, values = 2 * np.pi / period, [np.ones(1, dtype=complex)]
        characteristic = self._ring_characteristic() if self._is_ring else self._chain_characteristic
        while len(values) == 1 or np.abs(values[-1][len(values[-1]) // 2 :]).max() > 1e-14:
            count = sum(map(len, values))
            if count > 4096:
                raise SpdeError("the characteristic function of the spatial mean does not decay: too few points")
            values.append(characteristic(frequency * np.arange(count, count + 16)))
        mobility = self.amplitude**2 * share / (2 * self.length)
        return MeanLaw(low, period, np.concatenate(values), mobility)

    def _angles(self, theta: np.ndarray) -> np.ndarray:
        """(m, k) theta (u - low) dx / L, what one site adds to the phase."""
        return np.outer((self.nodes - self.nodes[0]) * self.spacing / self.length, theta)

    def _chain_characteristic(self, theta: np.ndarray) -> np.ndarray:
        """E exp(i theta (mean - lowest mean)), for an array of theta."""
        theta = np.concatenate([[0.0], theta])  # theta = 0 normalises
        phases = np.exp(1j * self._angles(theta))
        start = self._root_weight * np.exp(self._end(self.nodes))
        before = np.repeat(start[:, None].astype(complex), len(theta), axis=1)
        exponent = np.zeros(len(theta), dtype=int)
        for _ in range((self.points - 1) // 2):
            before, exponent = scaled(self._times_transfer(phases * before), exponent)
        here = phases * before
        other = before if self.points % 2 else self._times_transfer(here)
        sums = np.sum(here * other, axis=0)
        return (sums / sums[0] * 2.0 ** (2 * (exponent - exponent[0])))[1:]

    def _times_transfer(self, columns: np.ndarray) -> np.ndarray:
        """T times complex columns (m, k), as a real product."""
        return (self._transfer @ np.ascontiguousarray(columns).view(float)).view(complex)

    def _ring_characteristic(self) -> Pointwise:
        """The same function for a ring: traces of n-th powers in a basis of eigenvectors, as many as are needed."""
        rank = min(64, len(self.nodes))

        def characteristic(theta: np.ndarray) -> np.ndarray:
            nonlocal rank
            probe = theta[[0, len(theta) // 2, -1]]
            traces = self._traces(probe, rank)
            while rank < len(self.nodes):
                larger = min(rank + rank // 2, len(self.nodes))
                refined = self._traces(probe, larger)
                if np.abs(refined - traces).max() < 1e-13:
                    break
                rank, traces = larger, refined
            return self._traces(theta, rank)

        return characteristic

    def _traces(self, theta: np.ndarray, rank: int) -> np.ndarray:
        values, vectors, _ = self._spectrum
        scaled = vectors[:, :rank] * np.sqrt(values[:rank])
        factors = np.expm1(1j * self._angles(np.concatenate([[0.0], theta]))).T
        excess = np.diag(values[:rank] - 1)
        powers = [power_of_nearly_one(excess + (scaled.T * factor) @ scaled, self.points) for factor in factors]
        traces = rank + np.array([np.trace(power) for power in powers])
        return traces[1:] / traces[0]

    # sampling

    @property
    def uniforms_per_sample(self) -> int:
        """Number of uniforms that `sample` needs for one field."""
        return 2 * self.points + self._is_ring

    def sample(self, uniforms: np.ndarray) -> np.ndarray:
        """Independent fields, drawn exactly, site after site.

        A site's value is continuous: the lattice of nodes is shifted by a uniform fraction of its step, on which the
        conditional law is summed as exactly as on the nodes themselves. On a ring the bond that closes it is split in
        two halves by an auxiliary value between them, given which the ring is a chain with fixed ends.

        Parameters
        ----------
        uniforms : (uniforms_per_sample, batch) in [0, 1), independent; a field depends on its own column only

        Returns
        -------
        (n, batch) array
        """
        uniforms = np.asarray(uniforms, dtype=float)
        if uniforms.shape[0] != self.uniforms_per_sample:
            raise SpdeError(
                f"sampling {self.points} sites takes {self.uniforms_per_sample} uniforms, found {uniforms.shape[0]}"
            )
        if not self._is_ring:
            return self._draw_chain(self._left[0][:, :, None], np.zeros((1, 1)), uniforms, 0)
        hinges, probabilities = self._hinge_law
        cumulated = np.cumsum(probabilities)
        picked = np.searchsorted(cumulated, uniforms[-1] * cumulated[-1], side="right")
        used, group = np.unique(np.minimum(picked, len(hinges) - 1), return_inverse=True)
        fields = np.empty((self.points, uniforms.shape[1]))
        chunk = max(1, _CHUNK_BYTES // (8 * self.points * len(self.nodes)))
        for first in range(0, len(used), chunk):
            chosen = hinges[used[first : first + chunk]]
            start = self._root_weight[:, None] * np.exp(self._hinge_log(self.nodes[:, None], chosen))
            mine = np.flatnonzero((group >= first) & (group < first + chunk))
            fields[:, mine] = self._draw_chain(self._sweep(start)[0], chosen, uniforms[:, mine], group[mine] - first)
        return fields

    def _hinge_log(self, u: np.ndarray, hinge: np.ndarray) -> np.ndarray:
        """Log of half a bond: exp(-(u - z)^2 / s^2) convolved with itself is exp(-(u - v)^2 / (2 s^2))."""
        return -(((u - hinge) / self.stiffness_length) ** 2)

    @cached_property
    def _hinge_law(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of the auxiliary variable that splits the closing bond, and their probabilities."""
        values, vectors, _ = self._spectrum
        # half a bond is narrower by sqrt(2), and enters as a square
        hinges = np.arange(self.low, self.high, min(self.step, _STEP * self.stiffness_length) / 2)
        ends = self._root_weight[:, None] * np.exp(self._hinge_log(self.nodes[:, None], hinges))
        probabilities = values ** (self.points - 1) @ (vectors.T @ ends) ** 2
        return hinges, probabilities / probabilities.sum()

    def _draw_chain(
        self, right: np.ndarray, hinges: np.ndarray, uniforms: np.ndarray, group: np.ndarray | int
    ) -> np.ndarray:
        """Fields (n, batch) of chains, each with the sweep right[:, :, group] from its far end and its own hinge."""
        n, batch = self.points, uniforms.shape[1]
        group = np.broadcast_to(group, batch)
        u = self.low + self.step / FINE * np.arange(STENCIL[0], len(self.nodes) * FINE + STENCIL[-1] + 1)
        weight = self._log_weight(u)[:, None]
        onto = band(u, self.nodes, self.stiffness_length) @ scipy.sparse.diags(self._root_weight)
        closing = self._hinge_log if self._is_ring else lambda v, _: self._end(v)
        tight = 0.5 / self.stiffness_length**2
        fields = np.empty((n, batch))
        for i in range(n):
            if i + 1 < n:
                table = weight + np.log(np.maximum(onto @ right[n - 2 - i], 1e-300))
            else:
                table = weight + closing(u[:, None], hinges)
            if i == 0:
                table, anchor, precision = table + closing(u[:, None], hinges), np.zeros(batch), 0.0
            else:
                anchor, precision = fields[i - 1], tight
            fields[i] = draw_site(
                table.T, group, anchor, precision, uniforms[2 * i], uniforms[2 * i + 1], self.low, self.step
            )
        return fields


def _confined(law: InvariantLaw) -> InvariantLaw:
    """The law on an interval at whose ends no site has any density worth speaking of."""
    low, high = collective_range(law)
    # a chain with free ends fluctuates more than a ring
    boundary = "neumann" if law.boundary == "periodic" else law.boundary
    while True:
        step = min(0.8 * law.stiffness_length, (high - low) / 48)
        trial = replace(law, low=low, high=high, step=step, boundary=boundary)
        peak = (trial._marginals / trial._marginals.max(axis=1, keepdims=True)).max(axis=0)
        margin = 0.15 * (high - low)
        if peak[0] <= _EDGE and peak[-1] <= _EDGE:
            inside = trial.nodes[peak > _EDGE]
            return replace(law, low=inside[0] - step, high=inside[-1] + step)
        low, high = low - margin * (peak[0] > _EDGE), high + margin * (peak[-1] > _EDGE)
