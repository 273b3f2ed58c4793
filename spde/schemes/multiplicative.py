"""Schemes for noise g(u) dW, which is multiplied on the grid.

* euler_maruyama, semi_implicit, exponential_euler: c' = decay c + gain F(c) + push (g(u) dW), decay and gain as for
  additive noise. Strong order 1/2, weak order 1.
* milstein: exponential_euler with the further noise term g g' (dW^2 - C(x, x) h) / 2 at each point. Strong and weak
  order 1. The noise is commutative, since g acts pointwise, so that no Levy areas are needed.

push = sqrt(phi1(-2 a h)) for the exponential ones, so that for constant g they are exact as with additive noise.
Source: Kloeden and Platen 1992, sections 10.2 and 10.3; Jentzen and Roeckner 2015.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spde import loops
from spde.driving import Direct
from spde.errors import SpdeError
from spde.expressions import symbols
from spde.forces import Force
from spde.schemes import euler_maruyama, exponential_euler, semi_implicit
from spde.schemes.coefficients import phi1
from spde.schemes.modes import InModes, scratch
from spde.stepping import Noise

_LINEAR_PARTS = {
    "euler_maruyama": euler_maruyama,
    "semi_implicit": semi_implicit,
    "exponential_euler": exponential_euler,
    "milstein": exponential_euler,
}
SCHEMES = tuple(_LINEAR_PARTS)


class MultiplicativeStepper(InModes):
    """Stepper of an equation with multiplicative noise.

    Parameters
    ----------
    equation : the equation
    scheme : one of `SCHEMES`

    Raises
    ------
    SpdeError : milstein for a field whose noise depends on another field: it does not commute
    """

    additive = False

    def __init__(self, equation, time_step: float, scheme: str, reason: str = ""):
        super().__init__(time_step, scheme, reason)
        self.equation = equation
        linear = _LINEAR_PARTS[scheme].coefficients(equation.rates, equation.scales, time_step)
        self._decay, self._gain = linear.decay, linear.gain
        self._scale = equation.scales * np.sqrt(time_step)
        a = equation.rates * time_step
        self._push = {"euler_maruyama": np.ones_like(a), "semi_implicit": linear.decay}.get(
            scheme, np.sqrt(phi1(-2 * a))
        )
        laws, noise = list(equation.laws), []
        for f, law in enumerate(laws):
            noise.append(self._noise_term(law, f))
        self._force = Force(equation.domain, [_with_variance(law, equation) for law in laws], equation.names, noise)
        self._scratch: tuple = (0, ())
        self._loop = Direct(loops.multiplicative)

    def _noise_term(self, law, f: int):
        """Formula of the noise of field f in the symbol `_noise{f}`, which stands for dW at the point."""
        import sympy

        if not law.is_multiplicative:
            return symbols([f"_noise{f}"])[0]
        u, dw, variance = symbols([law.name, f"_noise{f}", "_variance"])
        term = law.amplitude * dw
        if self.scheme == "milstein":
            if not law.depends_on_itself_alone(self.equation.names):
                raise SpdeError(
                    f"milstein needs noise that commutes; the noise of {law.name} depends on another field: "
                    "use scheme: exponential_euler"
                )
            slope = sympy.diff(law.amplitude, u)
            term += law.amplitude * slope * (dw**2 - sympy.Float(self.time_step) * variance) / 2
        return term

    @property
    def rows(self) -> int:
        """One random number a mode."""
        return self.equation.dimension

    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) noise of a step, without Milstein's term."""
        equation = self.equation
        driven = equation.each(equation.domain.synthesis, self._scale[:, None] * numbers)
        modes = equation.each(equation.domain.analysis, equation.amplitudes(states) * driven)
        return equation.from_modes(self._push[:, None] * modes)

    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """Modes after some steps, in place."""
        if self._scratch[0] != array.shape[1]:
            self._scratch = (array.shape[1], scratch(array.shape, 2))
        normal, old, driven = self._scratch[1]
        force = self._force
        coefficients = (self._decay, self._gain, self._push, self._scale)
        position = (noise.address, step, steps)
        work = force.work(array.shape[1])
        self._loop(array, old, driven, *coefficients, *position, normal, trace, force.space, work)
        return array


def _with_variance(law, equation):
    return replace(law, grid_functions={**law.grid_functions, "_variance": equation.noise_variance})
