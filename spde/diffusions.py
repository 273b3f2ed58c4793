"""Diffusions in few dimensions: dX = b(X) dt + s(X) dW from expressions, Langevin dynamics, over- and underdamped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from spde import diffusion_steppers as steppers
from spde.diffusion_steppers import KernelStepper, vector_function
from spde.errors import SpdeError
from spde.expressions import Expression, no_reduction, symbols
from spde.kernels import vector_kernel
from spde.mobility import DiagonalField, MobilityField
from spde.random import normals
from spde.schemes.coefficients import Coefficients
from spde.schemes.vector import VectorStepper
from spde.stepping import Stepper

_PROBES = 8  # states at which properties that hold everywhere or nowhere are looked for


class VectorSystem:
    """What systems whose state is a vector of named numbers have in common.

    A subclass has `variables`, `mobility`, `drift`, `stepper` and `choose_scheme`.
    """

    variables: tuple[str, ...]
    # whether noise acts in every direction that the system can move in
    elliptic = True
    # whether the dynamics is reversible; None where that is not known
    reversible: bool | None = None
    # V of Langevin dynamics, whose invariant law is exp(-V/T); None for other dynamics
    potential: str | None = None
    temperature: float | None = None

    @property
    def dimension(self) -> int:
        return len(self.variables)

    def fields(self, states: np.ndarray) -> np.ndarray:
        """The states themselves."""
        return states

    def from_fields(self, values: np.ndarray) -> np.ndarray:
        """The values themselves."""
        return values

    @property
    def observed(self) -> tuple[str, ...]:
        """Names that observables may use."""
        return self.variables

    def observe(self, expression: Expression, states: np.ndarray) -> np.ndarray:
        """Values (batch,) of an observable in the variables."""
        outcome = expression(dict(zip(self.variables, states, strict=True)), no_reduction)
        return np.broadcast_to(outcome, (states.shape[1],))


class Diffusion(VectorSystem):
    """A diffusion with drift and noise from expressions.

    Parameters
    ----------
    variables : names of the d components
    drift : d expressions in them
    noise : s, numbers or expressions in the variables: one for all components, d for one each (independent noises in
        both cases), or a (d, k) matrix for k noises
    interpretation : "ito", or "stratonovich", which is converted: b_i + 1/2 sum_ja s_ja d s_ia / d x_j

    Raises
    ------
    SpdeError : numbers of entries that do not fit, an unknown interpretation
    ExpressionError : an entry that is no smooth formula in the variables
    """

    def __init__(self, variables: Sequence[str], drift: Sequence, noise, interpretation: str = "ito"):
        self.variables = tuple(variables)
        self._kernels: dict[str, Callable] = {}
        self._noise = noise_matrix(noise, self.variables)
        self._formulas = [_formula(b, self.variables) for b in drift]
        if len(self._formulas) != self.dimension:
            raise SpdeError(f"{len(self._formulas)} entries of the drift for {self.dimension} variables")
        if interpretation not in ("ito", "stratonovich"):
            raise SpdeError(f"interpretation {interpretation!r} is not one of ito, stratonovich")
        if interpretation == "stratonovich":
            self._formulas = [b + c for b, c in zip(self._formulas, self._ito_correction(), strict=True)]

    def _ito_correction(self) -> list:
        """1/2 sum_ja s_ja d s_ia / d x_j per component."""
        d, k = self.dimension, self.noises
        return [sum(self._noise_derivative(a, i, a) for a in range(k)) / 2 for i in range(d)]

    def _noise_derivative(self, a: int, i: int, c: int):
        """(s_a . grad) s_ic, symbolic."""
        import sympy

        s = self._noise
        return sum((s[j][a] * sympy.diff(s[i][c], x) for j, x in enumerate(symbols(self.variables))), sympy.Integer(0))

    @property
    def noises(self) -> int:
        """Number k of independent noises."""
        return len(self._noise[0])

    @cached_property
    def constant_noise(self) -> bool:
        """Whether the noise does not depend on the state."""
        return not any(entry.free_symbols for row in self._noise for entry in row)

    @cached_property
    def noise(self) -> np.ndarray:
        """(d, k) matrix s where it is constant. Raises SpdeError where it is not."""
        if not self.constant_noise:
            raise SpdeError("the noise depends on the state: it has no constant matrix")
        return np.array([[float(entry) for entry in row] for row in self._noise])

    @cached_property
    def mobility(self) -> np.ndarray | MobilityField:
        """M = s s^T / 2: (d,) where it is diagonal, else (d, d); a field where it depends on the state."""
        if not self.constant_noise:
            return DiagonalField(self._diagonal_mobility) if self._diagonal else MobilityField(self._directions)
        matrix = self.noise @ self.noise.T / 2
        diagonal = np.diag(matrix)
        return diagonal.copy() if np.array_equal(matrix, np.diag(diagonal)) else matrix

    @cached_property
    def _diagonal(self) -> bool:
        """Whether component i has noise i and no other."""
        square = self.noises == self.dimension
        return square and not any(e != 0 for i, row in enumerate(self._noise) for a, e in enumerate(row) if a != i)

    @cached_property
    def _noise_kernel(self) -> Callable:
        return vector_kernel([entry for row in self._noise for entry in row], self.variables)

    def noise_at(self, states: np.ndarray) -> np.ndarray:
        """s(x) at states (d, n), as (d, k, n)."""
        if self.constant_noise:
            return np.repeat(self.noise[:, :, None], states.shape[1], axis=2)
        out = np.empty((self.dimension * self.noises, states.shape[1]))
        self._noise_kernel(states, out)
        return out.reshape(self.dimension, self.noises, -1)

    def _directions(self, states: np.ndarray) -> np.ndarray:
        """(k, n, d) columns of s / sqrt(2)."""
        return np.ascontiguousarray(self.noise_at(states).transpose(1, 2, 0)) / np.sqrt(2)

    def _diagonal_mobility(self, states: np.ndarray) -> np.ndarray:
        """(n, d) of s_ii^2 / 2."""
        return np.einsum("iin->ni", self.noise_at(states)) ** 2 / 2

    @cached_property
    def _kernel(self) -> Callable:
        return vector_kernel(self._formulas, self.variables)

    def drift(self, states: np.ndarray) -> np.ndarray:
        """Ito drift b(x), (d, batch) to (d, batch)."""
        out = np.empty_like(states)
        self._kernel(states, out)
        return out

    @cached_property
    def linear(self) -> tuple[np.ndarray, np.ndarray] | None:
        """A (d, d) and c (d,) of an Ornstein-Uhlenbeck process dX = (A X + c) dt + s dW, None for anything else."""
        if not self.constant_noise:
            return None
        import sympy

        names = symbols(self.variables)
        rows, constants = [], []
        for formula in map(sympy.expand, self._formulas):
            slopes = [sympy.diff(formula, x) for x in names]
            if any(slope.free_symbols for slope in slopes):
                return None
            rows.append([float(slope) for slope in slopes])
            constants.append(float(formula.subs({x: 0 for x in names})))
        return np.array(rows), np.array(constants)

    @cached_property
    def _probes(self) -> np.ndarray:
        """(d, 8) states."""
        return normals(np.empty((self.dimension, _PROBES)), 0, 0, 0, 0)

    @cached_property
    def elliptic(self) -> bool:
        """Whether the noise has full rank (at some state at least: it may vanish on a boundary)."""
        if self.noises < self.dimension:
            return False
        if self.constant_noise:
            return bool(np.linalg.matrix_rank(self.noise) == self.dimension)
        s = self.noise_at(self._probes).transpose(2, 0, 1)
        s = s[np.isfinite(s).all(axis=(1, 2))]
        return not len(s) or bool((np.linalg.matrix_rank(s) == self.dimension).any())

    @cached_property
    def reversible(self) -> bool | None:
        """Whether M^-1 (b - div M) is a gradient, found from its differences at eight states; None if M is singular.

        Detailed balance asks for it: b = -M grad V + div M, with the invariant density exp(-V).
        """
        if not self.elliptic:
            return None
        if self.dimension == 1:
            return True
        v, step = self._balance(), 1e-5
        x, d = self._probes, self.dimension
        with np.errstate(all="ignore"):
            slopes = np.array([(v(x + step * e) - v(x - step * e)) / (2 * step) for e in np.eye(d)[:, :, None]])
        slopes = slopes[:, :, np.isfinite(slopes).all(axis=(0, 1))]
        if not slopes.size:
            return None
        asymmetry = np.abs(slopes - slopes.transpose(1, 0, 2)).max(axis=(0, 1))
        # a kink between two states that are compared may spoil a few of them, not most
        return bool(np.median(asymmetry / np.maximum(np.abs(slopes).max(axis=(0, 1)), 1e-300)) < 1e-5)

    def _balance(self) -> Callable:
        """Function (d, n) -> (d, n) of M^-1 (b - div M); not a number where M is singular."""
        import sympy

        names, d, k = symbols(self.variables), self.dimension, self.noises
        s = self._noise
        force = list(self._formulas)
        if not self.constant_noise:
            for i in range(d):
                for j, x in enumerate(names):
                    force[i] -= sympy.diff(sum(s[i][a] * s[j][a] for a in range(k)) / 2, x)
        evaluate = sympy.lambdify(names, force, "numpy", cse=True)  # for eight states a kernel is not worth compiling

        def balance(states: np.ndarray) -> np.ndarray:
            out = np.array([np.broadcast_to(b, states.shape[1:]) for b in evaluate(*states)], dtype=float)
            noise = self.noise_at(states)
            matrices = np.einsum("ian,jan->nij", noise, noise) / 2
            singular = ~(np.isfinite(matrices).all(axis=(1, 2)) & np.isfinite(out).all(axis=0))
            matrices[singular] = np.eye(d)
            singular |= np.linalg.cond(matrices) > 1e12
            matrices[singular] = np.eye(d)
            solved = np.linalg.solve(matrices, out.T[:, :, None])[:, :, 0].T
            solved[:, singular] = np.nan
            return solved

        return balance

    @cached_property
    def commutative(self) -> bool:
        """Whether (s_a . grad) s_b = (s_b . grad) s_a for all noises, so that Milstein's scheme needs no areas."""
        if self.noises == 1:
            return True
        rows = range(self.dimension)
        return all(
            (self._noise_derivative(a, i, c) - self._noise_derivative(c, i, a)).equals(0) is True
            for a in range(self.noises)
            for c in range(a)
            for i in rows
        )

    def choose_scheme(self, scheme: str = "auto") -> tuple[str, str]:
        """Name of the scheme that a name in the configuration stands for, and why.

        Raises
        ------
        SpdeError : a scheme that this diffusion cannot be stepped with
        """
        if scheme == "auto":
            return self._automatic()
        known = self._schemes()
        if scheme not in known:
            why = "; milstein needs commutative noise" if scheme == "milstein" and not self.constant_noise else ""
            raise SpdeError(f"scheme {scheme!r} is not one of auto, {', '.join(known)} for this diffusion{why}")
        return scheme, f"as asked: {known[scheme]}"

    def _automatic(self) -> tuple[str, str]:
        if not self.constant_noise:
            kind = "commutative noise" if self.commutative else "noise"
            return "platen", f"{kind} that depends on the state: weak order 2, without derivatives"
        if self.linear is not None:
            return "exact", "linear drift and constant noise: the transition law of the Ornstein-Uhlenbeck process"
        return "heun", "constant noise: weak order 2"

    def _schemes(self) -> dict[str, str]:
        if self.constant_noise:
            exact = {} if self.linear is None else {"exact": "transition law of the Ornstein-Uhlenbeck process"}
            return {"heun": "weak order 2", "euler_maruyama": "weak order 1", **exact}
        commutative = {"milstein": "strong and weak order 1"} if self.commutative else {}
        return {"platen": "weak order 2", **commutative, "euler_maruyama": "weak order 1, strong order 1/2"}

    def stepper(self, time_step: float, scheme: str = "auto") -> Stepper:
        """Time stepper; see `choose_scheme`.

        Orders: exact has no time-step error; heun weak 2, strong 1 (constant noise); platen weak 2, strong 1 where the
        noise commutes and else 1/2; milstein 1 and 1; euler_maruyama weak 1, strong 1 for constant noise and else 1/2.
        """
        name, reason = self.choose_scheme(scheme)
        if name == "exact":
            return self._exact_stepper(time_step, reason)
        if self.constant_noise:
            return self._additive_stepper(time_step, name, reason)
        kernel, k = self._compiled(name), self.noises
        areas = k * (k - 1) // 2 if name == "platen" and not self.commutative else 0
        step = lambda states, numbers: kernel(states, numbers, time_step)  # noqa: E731
        root = np.sqrt(time_step)
        kick = lambda states, numbers: root * np.einsum("ian,an->in", self.noise_at(states), numbers[:k])  # noqa: E731
        return KernelStepper(step, k + areas, time_step, name, reason, kick)

    def _compiled(self, scheme: str) -> Callable:
        """Kernel (states, normals, time_step) of a scheme, compiled once."""
        if scheme not in self._kernels:
            self._kernels[scheme] = self._compile(scheme)
        return self._kernels[scheme]

    def _compile(self, scheme: str) -> Callable:
        d, k = self.dimension, self.noises
        drift = vector_function(self._formulas, self.variables)
        noise = vector_function([entry for row in self._noise for entry in row], self.variables)
        if scheme == "milstein":
            slopes = [self._noise_derivative(a, i, c) for i in range(d) for a in range(k) for c in range(k)]
            return steppers.milstein(drift, noise, vector_function(slopes, self.variables), d, k)
        if scheme == "platen":
            return steppers.platen(drift, noise, d, k, self.commutative)
        return steppers.euler_maruyama(drift, noise, d, k)

    def _exact_stepper(self, time_step: float, reason: str) -> KernelStepper:
        matrix, constant = self.linear
        transition, shift, root = steppers.transition_law(matrix, constant, self.noise, time_step)
        step = lambda states, numbers: steppers.affine(states, numbers, transition, shift, root)  # noqa: E731
        kick = lambda states, numbers: root @ numbers  # noqa: E731
        return KernelStepper(step, self.dimension, time_step, "exact", reason, kick)

    def _additive_stepper(self, time_step: float, name: str, reason: str) -> VectorStepper:
        """Heun's method (Kloeden and Platen 1992, section 15.1) or Euler-Maruyama."""
        d, one = self.dimension, np.ones(self.dimension)
        square = np.zeros((d, d))
        if self.noises <= d:
            square[:, : self.noises] = self.noise
        else:  # any root of s s^T gives the same law
            values, vectors = np.linalg.eigh(self.noise @ self.noise.T)
            square = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        diagonal = np.diag(square)
        mix = None if np.array_equal(square, np.diag(diagonal)) else square
        scale = np.sqrt(time_step) * (diagonal if mix is None else one)
        correction = one * time_step / 2 if name == "heun" else np.empty(0)
        coefficients = Coefficients(one, one * time_step, scale, correction)
        return VectorStepper(coefficients, self.drift, time_step, name, mix, reason)


def _formula(entry, variables: Sequence[str]):
    """SymPy formula of a number, a text, or a SymPy formula itself."""
    return entry if hasattr(entry, "free_symbols") else Expression(entry, variables).symbolic()


def noise_matrix(noise, variables: Sequence[str]) -> list[list]:
    """(d, k) rows of formulas from a scalar, d entries, or d rows of equal length."""
    import sympy

    d = len(variables)
    expected = f"expected a number, {d} of them, or {d} rows of equal length, numbers or expressions"
    if not isinstance(noise, Sequence | np.ndarray) or isinstance(noise, str):
        noise = [noise] * d
    if len(noise) != d:
        raise SpdeError(f"{len(noise)} entries for {d} variables; {expected}")
    nested = [isinstance(row, Sequence | np.ndarray) and not isinstance(row, str) for row in noise]
    if not any(nested):
        formulas = [_formula(entry, variables) for entry in noise]
        return [[formulas[i] if i == j else sympy.Integer(0) for j in range(d)] for i in range(d)]
    if not all(nested) or len({len(row) for row in noise}) > 1 or not len(noise[0]):
        raise SpdeError(f"rows of different length; {expected}")
    return [[_formula(entry, variables) for entry in row] for row in noise]


def langevin(variables: Sequence[str], potential: str, temperature: float) -> Diffusion:
    """Overdamped Langevin dX = -grad V dt + sqrt(2 T) dW; invariant law exp(-V/T), mobility T.

    Parameters
    ----------
    variables : names of the components
    potential : V, an expression in them
    temperature : T > 0
    """
    drift = [-slope for slope in gradient(potential, variables)]
    system = Diffusion(variables, drift, float(np.sqrt(2 * temperature)))
    system.reversible, system.potential, system.temperature = True, potential, temperature
    return system


def gradient(potential: str, variables: Sequence[str]) -> list:
    """SymPy formulas of the derivatives of an expression."""
    import sympy

    V = Expression(potential, variables).symbolic()
    return [sympy.diff(V, x) for x in symbols(variables)]


class UnderdampedLangevin(Diffusion):
    """Langevin dynamics with inertia: dq = p / m dt, dp = -grad V(q) dt - gamma p dt + sqrt(2 gamma m T) dW.

    The state is (q, p); the momentum of a position `q` is the variable `p_q`. The invariant law is
    exp(-(V(q) + p^2 / (2 m)) / T). Noise acts on the momenta alone, so the mobility is degenerate, and the dynamics is
    reversible only up to a change of sign of the momenta: its rates are complex in general.

    Parameters
    ----------
    positions : names of the m positions
    potential : V, an expression in them
    temperature : T > 0
    friction : gamma > 0, 1/time
    mass : one for all positions, or one each

    Raises
    ------
    SpdeError : a name that is taken, or a number of masses that does not fit
    """

    reversible = False
    elliptic = False

    def __init__(self, positions: Sequence[str], potential: str, temperature: float, friction: float, mass=1.0):
        momenta = momenta_of(positions)
        taken = sorted(set(momenta) & set(positions))
        if taken:
            raise SpdeError(f"{taken[0]!r} is the momentum of {taken[0][2:]!r} and cannot be a position as well")
        masses = np.atleast_1d(np.asarray(mass, dtype=float))
        if len(masses) not in (1, len(positions)):
            raise SpdeError(f"{len(masses)} masses for {len(positions)} positions")
        self.masses = np.broadcast_to(masses, len(positions)).copy()
        self.temperature, self.friction = temperature, friction
        self._slopes = gradient(potential, positions)
        p = symbols(momenta)
        velocity = [a / m for a, m in zip(p, self.masses, strict=True)]
        force = [-slope - friction * a for slope, a in zip(self._slopes, p, strict=True)]
        amplitude = np.diag(np.sqrt(2 * friction * self.masses * temperature))
        super().__init__((*positions, *momenta), velocity + force, np.vstack([np.zeros_like(amplitude), amplitude]))

    def _automatic(self) -> tuple[str, str]:
        if self.linear is not None:
            return super()._automatic()
        return "baoab", "inertia and friction: splitting of weak order 2, most accurate for averages of positions"

    def _schemes(self) -> dict[str, str]:
        return {"baoab": "splitting of weak order 2", **super()._schemes()}

    def stepper(self, time_step: float, scheme: str = "auto") -> Stepper:
        """Time stepper; `auto` is baoab, exact for a quadratic potential."""
        name, reason = self.choose_scheme(scheme)
        if name != "baoab":
            return super().stepper(time_step, scheme)
        kernel, m = self._compiled("baoab"), len(self.masses)
        damping = np.exp(-self.friction * time_step)
        kick = np.sqrt(self.masses * self.temperature * -np.expm1(-2 * self.friction * time_step))
        drift = time_step / (2 * self.masses)
        step = lambda states, numbers: kernel(states, numbers, time_step / 2, drift, damping, kick)  # noqa: E731
        pushed = lambda states, numbers: np.vstack([np.zeros_like(numbers), kick[:, None] * numbers])  # noqa: E731
        return KernelStepper(step, m, time_step, name, reason, pushed)

    def _compile(self, scheme: str) -> Callable:
        if scheme == "baoab":
            return steppers.baoab(vector_function(self._slopes, self.variables), len(self.masses))
        return super()._compile(scheme)


def momenta_of(positions: Sequence[str]) -> tuple[str, ...]:
    """Names of the momenta of positions: `p_` in front."""
    return tuple(f"p_{name}" for name in positions)
