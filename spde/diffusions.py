"""Diffusions in few dimensions with constant noise: dX = b(X) dt + s dW."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from spde.errors import SpdeError
from spde.expressions import Expression, symbols
from spde.kernels import vector_kernel
from spde.schemes.coefficients import Coefficients
from spde.schemes.vector import VectorStepper


class Diffusion:
    """A diffusion with drift from expressions and a constant diffusion matrix.

    Parameters
    ----------
    variables : names of the d components
    drift : d expressions in them
    noise : (d, d) matrix s
    """

    def __init__(self, variables: Sequence[str], drift: Sequence, noise: np.ndarray):
        self.variables = tuple(variables)
        self.noise = np.asarray(noise, dtype=float)
        self._formulas = [b if hasattr(b, "free_symbols") else Expression(b, variables).symbolic() for b in drift]

    @property
    def dimension(self) -> int:
        return len(self.variables)

    @cached_property
    def mobility(self) -> np.ndarray:
        """M = s s^T / 2: (d,) where it is diagonal, else (d, d)."""
        matrix = self.noise @ self.noise.T / 2
        diagonal = np.diag(matrix)
        return diagonal.copy() if np.array_equal(matrix, np.diag(diagonal)) else matrix

    @cached_property
    def _kernel(self):
        return vector_kernel(self._formulas, self.variables)

    def drift(self, states: np.ndarray) -> np.ndarray:
        """b(x), (d, batch) to (d, batch)."""
        out = np.empty_like(states)
        self._kernel(states, out)
        return out

    def stepper(self, time_step: float, scheme: str = "auto") -> VectorStepper:
        """Time stepper: `auto` is stochastic Heun, weak order 2 for this additive noise.

        Source: Kloeden and Platen 1992, section 15.1; euler_maruyama has weak order 1.
        """
        one = np.ones(self.dimension)
        corrections = {"auto": one * time_step / 2, "heun": one * time_step / 2, "euler_maruyama": None}
        if scheme not in corrections:
            raise SpdeError(f"scheme {scheme!r} is not one of {', '.join(corrections)} for a diffusion")
        diagonal = np.diag(self.noise)
        mix = None if np.array_equal(self.noise, np.diag(diagonal)) else self.noise
        scale = np.sqrt(time_step) * (diagonal if mix is None else one)
        correction = corrections[scheme]
        coefficients = Coefficients(one, one * time_step, scale, np.empty(0) if correction is None else correction)
        return VectorStepper(coefficients, self.drift, time_step, scheme, mix)

    def fields(self, states: np.ndarray) -> np.ndarray:
        """The states themselves."""
        return states

    def from_fields(self, values: np.ndarray) -> np.ndarray:
        """The values themselves."""
        return values

    def observe(self, expression: Expression, states: np.ndarray) -> np.ndarray:
        """Values (batch,) of an observable in the variables."""
        outcome = expression(dict(zip(self.variables, states, strict=True)), _no_reduction)
        return np.broadcast_to(outcome, (states.shape[1],))


def _no_reduction(name: str, _array: np.ndarray) -> np.ndarray:
    raise SpdeError(f"{name}() reduces a field over space; a diffusion's variables are numbers already")


def langevin(variables: Sequence[str], potential: str, temperature: float) -> Diffusion:
    """Overdamped Langevin dX = -grad V dt + sqrt(2 T) dW; invariant law exp(-V/T), mobility T.

    Parameters
    ----------
    variables : names of the components
    potential : V, an expression in them
    temperature : T > 0
    """
    import sympy

    V = Expression(potential, variables).symbolic()
    drift = [-sympy.diff(V, x) for x in symbols(variables)]
    return Diffusion(variables, drift, np.sqrt(2 * temperature) * np.eye(len(variables)))
