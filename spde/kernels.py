"""Elementwise kernels for states of few components: arrays are (components, trajectories), trajectories contiguous."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spde.compiling import njit
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
