"""Splitting: the flow of the reaction at each point, and the linear part with its noise, exact in each mode.

* lie_splitting: flow over h, then linear part over h. Weak order 1.
* strang_splitting: linear part over h / 2, flow over h, linear part over h / 2. Weak order 2.

The flow is exact for a u + b u^3, for a + b u + c u^2 with real zeros and for a sin(u); otherwise it is one step of the
classical Runge-Kutta method, of order 4. The slope of the reaction at its stable zeros is left to the linear part:
the more of the reaction is split off, the larger the bias of the energy (method: Brehier and Goudenege 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spde import loops
from spde.codegen import arithmetic
from spde.driving import Direct
from spde.errors import SpdeError
from spde.expressions import symbols
from spde.forces import Force
from spde.schemes.coefficients import convolution_scale
from spde.schemes.modes import InModes, scratch
from spde.stepping import Noise

_HALVES = {"lie_splitting": 1, "strang_splitting": 2}
SCHEMES = tuple(_HALVES)


class SplittingStepper(InModes):
    """Stepper that alternates reaction and linear part.

    Parameters
    ----------
    equation : with additive noise, whose only nonlinear term is a reaction
    scheme : one of `SCHEMES`

    Raises
    ------
    SpdeError : a flux or a potential, which have no pointwise flow
    """

    def __init__(self, equation, time_step: float, scheme: str, reason: str = ""):
        laws = equation.laws
        if any(law.potential != 0 or any(f != 0 for f in law.flux) for law in laws):
            raise SpdeError(f"{scheme} splits off a reaction; a flux or a conserved potential needs scheme: auto")
        shifts = [_stable_damping(law) if len(laws) == 1 else 0.0 for law in laws]
        laws = [_shifted(law, shift) for law, shift in zip(laws, shifts)]
        flows = [exact_flow(laws[0].reaction, symbols([laws[0].name])[0], time_step)] if len(laws) == 1 else [None]
        kind = "Runge-Kutta" if None in flows else "exact"
        super().__init__(time_step, scheme, reason or f"{kind} flow of the reaction")
        self.equation = equation
        self._halves = self.draws = _HALVES[scheme]
        part = time_step / self._halves
        rates = equation.rates + np.repeat(shifts, equation.domain.size)
        self._decay = np.exp(-rates * part)
        self._scale = convolution_scale(rates, equation.scales, part)
        if None in flows:
            body = runge_kutta([law.reaction for law in laws], equation.names, time_step)
            self._flow = Force(equation.domain, laws, equation.names, body=body)
        else:
            flowing = [replace(law, reaction=flow) for law, flow in zip(laws, flows)]
            self._flow = Force(equation.domain, flowing, equation.names)
        self._scratch: tuple = (0, ())
        self._loop = Direct(loops.splitting)

    @property
    def rows(self) -> int:
        """One random number a mode."""
        return self.equation.dimension

    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) noise of half a step, or of a whole one."""
        return self.equation.from_modes(self._scale[:, None] * numbers)

    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """Modes after some steps, in place."""
        if self._scratch[0] != array.shape[1]:
            self._scratch = (array.shape[1], scratch(array.shape, 1))
        normal, moved, _ = self._scratch[1]
        flow, linear = self._flow, (self._decay, self._scale, self._halves)
        work, position = flow.work(array.shape[1]), (noise.address, step, steps)
        self._loop(array, moved, *linear, *position, normal, trace, flow.space, work)
        return array


def _shifted(law, shift: float):
    """The law with a further part of its reaction called linear damping."""
    import sympy

    u = symbols([law.name])[0]
    return replace(law, damping=law.damping + shift, reaction=sympy.expand(law.reaction + shift * u))


def _stable_damping(law) -> float:
    """Mean damping about the stable zeros of a polynomial reaction, beyond what is linear already; else zero."""
    import sympy

    u = symbols([law.name])[0]
    if law.reaction.free_symbols != {u} or not law.reaction.is_polynomial(u):
        return 0.0
    whole = law.reaction - law.damping * u
    slope = sympy.diff(whole, u)
    roots = [r.real for r in np.roots([float(a) for a in sympy.Poly(whole, u).all_coeffs()]) if abs(r.imag) < 1e-9]
    stable = [-float(slope.subs(u, r)) for r in roots if float(slope.subs(u, r)) < 0]
    return max(0.0, float(np.mean(stable)) - law.damping) if stable else 0.0


def exact_flow(reaction, u, time: float):
    """Solution at a time of du/dt = reaction from u, in closed form; None where none is known here."""
    import sympy

    if reaction == 0:
        return u
    scale = sympy.simplify(reaction / sympy.sin(u)) if reaction.has(sympy.sin) else None
    if scale is not None and scale.is_number:
        # tan(u / 2) grows as exp(scale t); written as a change of u, so that the winding is kept
        grown = sympy.Float(np.exp(float(scale) * time))
        s, c = sympy.sin(u / 2), sympy.cos(u / 2)
        return u + 2 * sympy.atan((grown - 1) * s * c / (c**2 + grown * s**2))
    if reaction.free_symbols != {u} or not reaction.is_polynomial(u):
        return None
    coefficients = [float(a) for a in sympy.Poly(reaction, u).all_coeffs()][::-1]
    if len(coefficients) == 4 and coefficients[0] == coefficients[2] == 0:
        return _cubic_flow(coefficients[1], coefficients[3], u, time)
    return _quadratic_flow(coefficients, u, time) if len(coefficients) <= 3 else None


def _cubic_flow(a: float, b: float, u, time: float):
    """du/dt = a u + b u^3, a Bernoulli equation; None where it blows up."""
    import sympy

    if b > 0:
        return None
    growth = np.exp(a * time)
    spread = -b * (np.expm1(2 * a * time) / a if a != 0 else 2 * time)
    # the root of a number above one, for which there is a faster function than 1 / sqrt
    return u * sympy.Float(growth) * sympy.Function("rsqrt")(1 + sympy.Float(spread) * u**2)


def _quadratic_flow(coefficients: Sequence[float], u, time: float):
    """du/dt = c0 + c1 u + c2 u^2, a Riccati equation with real zeros, or linear."""
    import sympy

    c0, c1, c2 = (*coefficients, 0.0, 0.0, 0.0)[:3]
    if c2 == 0:
        growth = np.exp(c1 * time)
        return sympy.Float(growth) * u + sympy.Float(c0 * (np.expm1(c1 * time) / c1 if c1 != 0 else time))
    discriminant = c1**2 - 4 * c0 * c2
    if discriminant <= 0:
        return None
    low, high = sorted(((-c1 - np.sqrt(discriminant)) / (2 * c2), (-c1 + np.sqrt(discriminant)) / (2 * c2)))
    # (u - low) / (u - high) grows as exp(c2 (low - high) t)
    grown = sympy.Float(np.exp(c2 * (low - high) * time))
    low, high = sympy.Float(low), sympy.Float(high)
    return (low * (u - high) - high * (u - low) * grown) / ((u - high) - (u - low) * grown)


def runge_kutta(reactions: Sequence, names: Sequence[str], time: float) -> list[str]:
    """Lines that compute out_f, one classical Runge-Kutta step of the fields, from their names."""
    fields = symbols(names)
    lines, here = [], fields
    for stage, (weight, next_part) in enumerate(((1, 0.5), (2, 0.5), (2, 1.0), (1, 0.0))):
        slopes = [f"_k{stage}_{f}" for f in range(len(names))]
        swap = dict(zip(fields, here))
        lines += arithmetic([r.subs(swap, simultaneous=True) for r in reactions], 0, slopes, f"_s{stage}_").split("\n")
        for f, name in enumerate(names):
            start = f"{name}" if stage == 0 else f"_sum{f}"
            lines.append(f"_sum{f} = {start} + {weight * time / 6!r} * {slopes[f]}")
            if next_part:
                lines.append(f"_at{stage}_{f} = {name} + {next_part * time!r} * {slopes[f]}")
        here = symbols([f"_at{stage}_{f}" for f in range(len(names))])
    return [*lines, *(f"out{f}[b] = _sum{f}" for f in range(len(names)))]
