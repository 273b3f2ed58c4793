"""Semilinear stochastic PDEs on intervals, rectangles and boxes, as diffusions in R^d.

Each field obeys du = [nu Lap u - kappa Lap^2 u + r(u, x) + sum_a d/dx_a f_a(u) + Lap p(u)] dt + g(u) dW with W a
Q-Wiener process (`spde.noise`), in the sense of Ito unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spde.domain import Domain
from spde.errors import SpdeError
from spde.expressions import REDUCTIONS, Expression, symbols
from spde.forces import Force
from spde.formulas import Law, wick
from spde.mobility import ModeMobility, MultipliedField
from spde.noise import Covariance
from spde.schemes import choose, stepper

_CACHED_NUMBERS = 2**18  # of one array of a step: 2 MiB, the second-level cache of a core


@dataclass(frozen=True)
class Field:
    """The terms of one field's equation; expressions are in the fields, coordinates and named parameters.

    Parameters
    ----------
    name : of the field in expressions
    diffusivity : nu, length**2 / time; hyperdiffusivity : kappa, length**4 / time; numbers, or expressions
    reaction : r; potential : p, whose Laplacian is added (conserved dynamics)
    flux : f_a per axis, whose divergence is added; none, or one for each axis
    amplitude : g, a number, or an expression for multiplicative noise
    """

    name: str = "u"
    diffusivity: float | str = 0.0
    hyperdiffusivity: float | str = 0.0
    reaction: str | float = 0.0
    potential: str | float = 0.0
    flux: tuple[str | float, ...] = ()
    amplitude: float | str = 1.0


class SemilinearEquation:
    """A system of semilinear equations on a domain; the state is (d, batch) with the fields one after another.

    A field is its values on the grid (finite differences) or its Laplacian coefficients (spectral).

    Parameters
    ----------
    domain : domain and discretisation
    fields : the terms of each field
    covariance : of the noise, the same for all fields
    parameters : values of the names in the expressions
    interpretation : of multiplicative noise, ito or stratonovich
    renormalize : replace powers of u by Wick powers, which makes white noise in two dimensions possible

    Raises
    ------
    SpdeError : a term cannot be parsed, the equation has no meaning, or it is unbounded at high wavenumbers
    """

    def __init__(
        self,
        domain: Domain,
        fields: Sequence[Field],
        covariance: Covariance | None = None,
        parameters: Mapping[str, float] | None = None,
        interpretation: str = "ito",
        renormalize: bool = False,
    ):
        self.covariance = covariance or Covariance()
        self.parameters = dict(parameters or {})
        self.interpretation = interpretation
        self.names = tuple(field.name for field in fields)
        self._weights: dict[tuple, np.ndarray] = {}
        self.coordinates = domain.coordinate_names
        laws = [Law.of(field, self.names, self.coordinates, self.parameters, domain.dimensions) for field in fields]
        self.domain = domain.for_degree(max(law.degree for law in laws))
        self._check_dissipative(laws)
        if renormalize:
            laws = [wick(law, self.names, *self._linear_variance(laws)) for law in laws]
        else:
            self._check_regular(laws)
        self.laws = tuple(self._ito(laws))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names that observables may use: fields and coordinates."""
        return (*self.names, *self.coordinates)

    @property
    def dimension(self) -> int:
        return len(self.names) * self.domain.size

    @property
    def lanes(self) -> int:
        """Trajectories that are best stepped together: as many as keep the state of a step in the cache, 8 to 64."""
        grid = len(self.names) * self.domain.grid_size
        return int(2 ** np.clip(np.floor(np.log2(_CACHED_NUMBERS / grid)), 3, 6))

    @cached_property
    def rates(self) -> np.ndarray:
        """(d,) decay rates of the part that is linear and diagonal, per mode; linear damping included."""
        l = self.domain.eigenvalues
        return np.concatenate([law.diffusivity * l + law.hyperdiffusivity * l**2 + law.damping for law in self.laws])

    @cached_property
    def scales(self) -> np.ndarray:
        """(d,) noise amplitude sigma q_j of each mode; of unit g where the noise is multiplicative."""
        q = np.sqrt(self.covariance.spectrum(self.domain.squared_wavenumbers, self.domain.dimensions))
        if self.covariance.conserved:
            q = q * np.sqrt(self.domain.eigenvalues)
        return np.concatenate([q if law.is_multiplicative else law.amplitude * q for law in self.laws])

    @property
    def is_multiplicative(self) -> bool:
        return any(law.is_multiplicative for law in self.laws)

    @property
    def is_linear(self) -> bool:
        """Whether the drift is entirely in the rates and the noise additive: every scheme's linear part is then all."""
        return self.force is None and not self.is_multiplicative

    @property
    def reversible(self) -> bool:
        """Whether the dynamics has detailed balance: modes that do not mix, or minus a gradient times the mobility.

        The latter are reactions driven by white noise, and conserved dynamics driven by conserved white noise.
        """
        if self.is_multiplicative or any(any(f != 0 for f in law.flux) for law in self.laws):
            return False
        if self.is_linear:
            return True
        law, white = self.laws[0], self.covariance.kind == "white"
        conserved = self.covariance.conserved
        alone = law.reaction == 0 and law.damping == 0 if conserved else law.potential == 0
        return len(self.laws) == 1 and white and alone

    @property
    def elliptic(self) -> bool:
        """Whether noise acts on every field, and so on the modes of `mode_map`."""
        return all(part.any() for part in np.split(self.scales, len(self.names)))

    @cached_property
    def force(self) -> Force | None:
        """All of the drift that is not in the rates, as a function of modes; None where there is nothing."""
        terms = [law for law in self.laws if not law.is_linear]
        return Force(self.domain, self.laws, self.names) if terms else None

    @cached_property
    def mobility(self) -> np.ndarray | ModeMobility | MultipliedField:
        """M = s s^T / 2: (d,) where it is diagonal, else an operator; sigma^2 / (2 cell) on a grid with white noise.

        It depends on the state where the noise is multiplicative.
        """
        if self.is_multiplicative:
            return MultipliedField(self)
        variances = self.scales**2 / 2
        if not self.domain.is_grid:
            return variances
        return variances / self.domain.cell if np.ptp(variances) == 0 else ModeMobility(variances, self)

    def amplitudes(self, states: np.ndarray) -> np.ndarray:
        """(fields * grid_size, n) values of g at states (d, n); 1 for fields whose noise is additive."""
        import sympy

        names, fields = [*self.names, *self.coordinates], np.split(self.fields(states), len(self.names))
        arguments = [*fields, *(x[:, None] for x in self.domain.coordinates.values())]
        parts = []
        for law in self.laws:
            g = sympy.lambdify(symbols(names), law.amplitude, "numpy") if law.is_multiplicative else lambda *_: 1.0
            parts.append(np.broadcast_to(g(*arguments), fields[0].shape))
        return np.concatenate(parts)

    def drift(self, states: np.ndarray) -> np.ndarray:
        """b(x) of dX = b dt + s dW, (d, batch) to (d, batch)."""
        modes = self.to_modes(states)
        rate = -self.rates[:, None] * modes
        if self.force is not None:
            rate += self.force(modes)
        return self.from_modes(rate)

    def choose_scheme(self, scheme: str = "auto") -> tuple[str, str]:
        """Name of the scheme that a name in the configuration stands for, and why."""
        return choose(self, scheme)

    def stepper(self, time_step: float, scheme: str = "auto"):
        """Time stepper, see `spde.schemes`; `auto` picks by equation, and the stepper's `reason` says why."""
        return stepper(self, time_step, scheme)

    def to_modes(self, states: np.ndarray) -> np.ndarray:
        """Laplacian coefficients (d, batch) of states."""
        return self.each(self.domain.analysis, states) if self.domain.is_grid else states

    def from_modes(self, modes: np.ndarray) -> np.ndarray:
        """States of Laplacian coefficients (d, batch)."""
        return self.each(self.domain.synthesis, modes) if self.domain.is_grid else modes

    def fields(self, states: np.ndarray) -> np.ndarray:
        """Values on the grid, (fields * grid_size, batch)."""
        return states if self.domain.is_grid else self.each(self.domain.synthesis, states)

    def from_fields(self, values: np.ndarray) -> np.ndarray:
        """States of values on the grid (fields * grid_size, batch)."""
        return values if self.domain.is_grid else self.each(self.domain.analysis, values)

    def each(self, transform, array: np.ndarray) -> np.ndarray:
        """A transform of every field."""
        parts = np.split(np.ascontiguousarray(array, dtype=float), len(self.names))
        return transform(parts[0]) if len(parts) == 1 else np.concatenate([transform(part) for part in parts])

    def pointwise_variance(self, variances: np.ndarray) -> np.ndarray:
        """(fields * grid_size,) variance at each grid point of independent modes of given variances (d,)."""
        parts = np.split(variances, len(self.names))
        return np.concatenate([self.domain.pointwise_variance(part) for part in parts])

    def mode_map(self, count: int) -> np.ndarray:
        """(count, d) matrix from states to the Laplacian coefficients of lowest wavenumber, field by field in turn.

        Modes without noise (the mean, where it is conserved) are left out.
        """
        each, size = len(self.names), self.domain.size
        driven = (self.scales.reshape(each, size) > 0).any(axis=0)
        chosen = self.domain.order[driven[self.domain.order]][: -(-count // each)]
        matrix = np.zeros((len(chosen) * each, self.dimension))
        for f in range(each):
            columns = slice(f * self.domain.size, (f + 1) * self.domain.size)
            if self.domain.is_grid:
                matrix[f::each, columns] = self.domain.modes(chosen).T * self.domain.cell
            else:
                matrix[np.arange(len(chosen)) * each + f, columns.start + chosen] = 1.0
        return np.ascontiguousarray(matrix[:count])

    def observe(self, expression: Expression, states: np.ndarray) -> np.ndarray:
        """Values (batch,) of an observable in fields and coordinates, made numbers as `spde.expressions` says.

        mean(f) is the integral of f over the domain, divided by its volume; energy(f) is half the integral of the
        squared gradient, mode(f, k) the coefficient of the k-th orthonormal eigenfunction of the Laplacian from the
        lowest wavenumber on, u(x) the sum of all coefficients times these there.
        """
        values = dict(zip(self.names, np.split(self.fields(states), len(self.names)), strict=True))
        values |= {name: x[:, None] for name, x in self.domain.coordinates.items()}
        outcome = expression(values, self._reduce)
        if outcome.ndim > 1 and outcome.shape[0] > 1:
            middle = ", ".join(f"{axis.length / 2:g}" for axis in self.domain.axes)
            raise SpdeError(
                f"observable {expression.text!r} is a field: take a number of it with {', '.join(REDUCTIONS)}, or at a "
                f"place, as {self.names[0]}({middle})"
            )
        return np.broadcast_to(outcome.reshape(outcome.shape[-1:]), (states.shape[1],))

    def weights(self, name: str, *numbers: float) -> np.ndarray:
        """(grid_size,) w of a linear reduction: mean, sum, mode and at are the sum of w f over the grid."""
        domain, key = self.domain, (name, *numbers)
        if key not in self._weights:
            make = {
                "mean": lambda: np.full(domain.grid_size, domain.cell / domain.volume),
                "sum": lambda: np.ones(domain.grid_size),
                "mode": lambda: domain.weights_of_mode(int(numbers[0])),
                "at": lambda: domain.weights_at(numbers),
            }
            self._weights[key] = make[name]()
        return self._weights[key]

    def _reduce(self, name: str, array: np.ndarray, *numbers: float) -> np.ndarray:
        if array.ndim < 2 or array.shape[0] == 1:
            raise SpdeError(f"{name}() is taken of something that does not depend on space")
        if name == "energy":
            return (array * self.domain.stiffness(array)).sum(axis=0, keepdims=True) / 2
        if name == "mean":
            return array.sum(axis=0, keepdims=True) * (self.domain.cell / self.domain.volume)
        if numbers:
            return (self.weights(name, *numbers)[:, None] * array).sum(axis=0, keepdims=True)
        return getattr(np, name)(array, axis=0, keepdims=True)

    def _check_dissipative(self, laws: Sequence[Law]) -> None:
        for law in laws:
            if law.hyperdiffusivity < 0 or (law.hyperdiffusivity == 0 and law.diffusivity < 0):
                raise SpdeError(
                    f"diffusivity: {law.diffusivity:g} with hyperdiffusivity {law.hyperdiffusivity:g} leaves "
                    f"{law.name} without dissipation at high wavenumbers; let neither be negative"
                )

    def _check_regular(self, laws: Sequence[Law]) -> None:
        """Refuse nonlinear equations whose linear part has no function-valued solution: Da Prato and Debussche 2003."""
        dims = self.domain.dimensions
        for law in laws:
            if dims == 1 or (law.is_linear and not law.is_multiplicative) or law.amplitude == 0:
                continue
            smoothing = 2 if law.hyperdiffusivity > 0 else (1 if law.diffusivity > 0 else 0)
            if self.covariance.decay(dims) + smoothing <= dims / 2:
                remedy = "; or renormalization: wick, for a polynomial reaction" if dims == 2 else ""
                raise SpdeError(
                    f"noise.covariance: {self.covariance.kind} noise in {dims} dimensions makes {law.name} a "
                    "distribution, of which a nonlinear term has no meaning (it depends on the grid); use trace-class "
                    f"noise, such as covariance: matern{remedy}"
                )

    def _linear_variance(self, laws: Sequence[Law]) -> tuple[int, np.ndarray]:
        """(grid_size,) stationary variance C(x) of the linear field of unit damping, or the equation's own."""
        if len(laws) > 1 or laws[0].is_multiplicative:
            raise SpdeError("noise.renormalization: Wick renormalisation is for one field with additive noise")
        law, l = laws[0], self.domain.eigenvalues
        q = self.covariance.spectrum(self.domain.squared_wavenumbers, self.domain.dimensions)
        rates = law.diffusivity * l + law.hyperdiffusivity * l**2 + (law.damping or 1.0)
        return self.domain.dimensions, self.domain.pointwise_variance(law.amplitude**2 * q / (2 * rates))

    def _ito(self, laws: Sequence[Law]) -> Sequence[Law]:
        """The laws with the Stratonovich correction g g' C(x, x) / 2 added to the reaction."""
        if self.interpretation == "ito" or not any(law.is_multiplicative for law in laws):
            return laws
        if self.covariance.decay(self.domain.dimensions) <= self.domain.dimensions / 2:
            raise SpdeError(
                f"noise.interpretation: {self.covariance.kind} noise has infinite variance at a point, and so has its "
                "Stratonovich correction, which grows as the grid is refined; use trace-class noise, or ito"
            )
        return [law.with_ito_correction(self.noise_variance) for law in laws]

    @cached_property
    def noise_variance(self) -> np.ndarray:
        """(grid_size,) C(x, x): variance of the noise of unit amplitude at each grid point, per unit time."""
        q = self.covariance.spectrum(self.domain.squared_wavenumbers, self.domain.dimensions)
        if self.covariance.conserved:
            q = q * self.domain.eigenvalues
        return self.domain.pointwise_variance(q)
