"""Elementwise kernels of the time steppers, compiled once and cached.

Arrays are (components, trajectories), trajectories contiguous, so that every loop vectorises across
trajectories. Kernels for a particular formula are made by `pointwise_kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numba import njit

from spde.expressions import compile_pointwise


@njit(cache=True, nogil=True)
def combine(state, decay, force, gain, noise, scale, out):
    """out = decay * state + gain * force + scale * noise, coefficients per component (rows)."""
    for i in range(state.shape[0]):
        for b in range(state.shape[1]):
            out[i, b] = decay[i] * state[i, b] + gain[i] * force[i, b] + scale[i] * noise[i, b]


@njit(cache=True, nogil=True)
def correct(state, gain, new_force, old_force, out):
    """out = state + gain * (new_force - old_force), gain per component."""
    for i in range(state.shape[0]):
        for b in range(state.shape[1]):
            out[i, b] = state[i, b] + gain[i] * (new_force[i, b] - old_force[i, b])


@njit(cache=True, nogil=True)
def horner(values, coefficients, out):
    """out = polynomial in values, coefficients from the highest power down."""
    for i in range(values.shape[0]):
        for b in range(values.shape[1]):
            x = values[i, b]
            y = coefficients[0]
            for k in range(1, len(coefficients)):
                y = y * x + coefficients[k]
            out[i, b] = y


def pointwise_kernel(formula, names: Sequence[str]) -> Callable:
    """Kernel (values, x, out): out[i, b] = formula(values[i, b], x[i]).

    Parameters
    ----------
    formula : SymPy expression in the two symbols `names`, field and coordinate
    names : for example ("u", "x")
    """
    function = compile_pointwise([formula], names)

    @njit(nogil=True, error_model="numpy")
    def kernel(values, x, out):
        for i in range(values.shape[0]):
            for b in range(values.shape[1]):
                out[i, b] = function(values[i, b], x[i])[0]

    return kernel


def vector_kernel(formulas: Sequence, names: Sequence[str]) -> Callable:
    """Kernel (states, out): out[:, b] = formulas(states[:, b]) for a vector field of few components."""
    function = compile_pointwise(formulas, names)
    d = len(names)

    # Numba has no call with a runtime number of arguments: spell the d components out, indices only
    arguments = ", ".join(f"states[{i}, b]" for i in range(d))
    lines = [
        "def kernel(states, out):",
        "    for b in range(states.shape[1]):",
        f"        value = function({arguments})",
        *(f"        out[{i}, b] = value[{i}]" for i in range(len(formulas))),
    ]
    namespace: dict = {"function": function}
    exec("\n".join(lines), namespace)
    return njit(namespace["kernel"], nogil=True, error_model="numpy")
