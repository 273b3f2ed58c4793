"""The time loops in mode space: transforms, nonlinear terms, noise and linear part of many steps in one compiled call.

Arrays are (fields * modes, batch) or (slots, points, batch), trajectories contiguous. The arguments `space` and `work`
carry what all loops share:

* space : (terms, plans, sizes, derivatives, plain, conserved, eigenvalues, neighbours, grid, parameters), see
  `spde.forces.Force`; terms(values, grid, parameters, neighbours, out) computes the nonlinear terms at every point, and
  is the only part that is compiled for an equation
* work : (values, raw, extra, scratch, workspace), arrays for one batch width
"""

import warnings

from numba import njit

from spde.driving import draw
from spde.fft_kernels import apply

warnings.filterwarnings("ignore", message="First-class function type feature is experimental")


@njit(nogil=True, error_model="numpy")
def sweep(plans, given, wanted, source, target, scratch, workspace):
    """Transform source (product of given, batch) into target (product of wanted, batch), axis after axis.

    Parameters
    ----------
    plans : one transform for each axis
    given, wanted : (axes,) sizes of the axes before and after
    """
    batch, axes = source.shape[1], len(given)
    half, start, end = len(scratch) // 2, source.reshape(-1), target.reshape(-1)
    for a in range(axes):
        outer, inner = 1, batch
        for b in range(a):
            outer *= wanted[b]
        for b in range(a + 1, axes):
            inner *= given[b]
        n, m = given[a], wanted[a]
        here, there = half * ((a + 1) % 2), half * (a % 2)
        first = start if a == 0 else scratch[here : here + outer * n * inner]
        last = end if a == axes - 1 else scratch[there : there + outer * m * inner]
        apply(plans[a], first.reshape((outer, n, inner)), last.reshape((outer, m, inner)), workspace[a])


@njit(cache=True, nogil=True, error_model="numpy")
def force(modes, out, space, work):
    """out = F(modes): reaction, flux divergence and Laplacian of the potential."""
    terms, plans, sizes, derivatives, plain, conserved, eigenvalues, neighbours, grid, p = space
    values, raw, extra, scratch, workspace = work
    size, points = len(eigenvalues), raw.shape[1]
    fields = len(plain)
    for f in range(fields):
        sweep(plans[0], sizes[0], sizes[1], modes[f * size : (f + 1) * size], values[f, :points], scratch, workspace)
    for slot in range(len(derivatives)):
        f, axis = derivatives[slot]
        target = values[fields + slot, :points]
        sweep(plans[2 + axis], sizes[0], sizes[1], modes[f * size : (f + 1) * size], target, scratch, workspace)
    terms(values, grid, p, neighbours, raw)
    for f in range(fields):
        target = out[f * size : (f + 1) * size]
        if plain[f] >= 0:
            sweep(plans[1], sizes[1], sizes[0], raw[plain[f]], target, scratch, workspace)
        else:
            for j in range(size):
                for b in range(modes.shape[1]):
                    target[j, b] = 0.0
        if conserved[f] >= 0:
            sweep(plans[1], sizes[1], sizes[0], raw[conserved[f]], extra, scratch, workspace)
            for j in range(size):
                for b in range(modes.shape[1]):
                    target[j, b] -= eigenvalues[j] * extra[j, b]


@njit(nogil=True, error_model="numpy")
def drive(modes, force_values, decay, gain, scale, address, step, normal):
    """modes = decay modes + gain force + scale N(0, 1), in place."""
    for quad in range((modes.shape[0] + 3) // 4):
        draw(normal, address, step, quad)
        for row in range(min(4, modes.shape[0] - 4 * quad)):
            i = 4 * quad + row
            state, push, n = modes[i], force_values[i], normal[row]
            for b in range(modes.shape[1]):
                state[b] = decay[i] * state[b] + gain[i] * push[b] + scale[i] * n[b]


@njit(nogil=True, error_model="numpy")
def relax(modes, decay, scale, address, step, normal):
    """modes = decay modes + scale N(0, 1), in place."""
    for quad in range((modes.shape[0] + 3) // 4):
        draw(normal, address, step, quad)
        for row in range(min(4, modes.shape[0] - 4 * quad)):
            i = 4 * quad + row
            state, n = modes[i], normal[row]
            for b in range(modes.shape[1]):
                state[b] = decay[i] * state[b] + scale[i] * n[b]


@njit(cache=True, nogil=True, error_model="numpy")
def linear(modes, decay, scale, address, step, steps, normal):
    """Steps of an equation without a force."""
    for index in range(step, step + steps):
        relax(modes, decay, scale, address, index, normal)


@njit(cache=True, nogil=True, error_model="numpy")
def additive(modes, old, new, decay, gain, scale, correction, address, step, steps, normal, space, work):
    """Steps of a scheme of one stage, or of two where `correction` is not empty; see `Coefficients`."""
    for index in range(step, step + steps):
        force(modes, old, space, work)
        drive(modes, old, decay, gain, scale, address, index, normal)
        if len(correction):
            force(modes, new, space, work)
            for i in range(modes.shape[0]):
                for b in range(modes.shape[1]):
                    modes[i, b] += correction[i] * (new[i, b] - old[i, b])


@njit(cache=True, nogil=True, error_model="numpy")
def splitting(modes, decay, scale, halves, address, step, steps, normal, space, work):
    """Steps of a splitting: `terms` is the flow of the reaction over one step.

    halves : 1 for flow then linear part (Lie), 2 for linear part over half a step before and after the flow (Strang)
    """
    terms, plans, sizes, _, plain, _, eigenvalues, neighbours, grid, p = space
    values, raw, _, scratch, workspace = work
    size, points = len(eigenvalues), raw.shape[1]
    for index in range(step, step + steps):
        if halves == 2:
            relax(modes, decay, scale, address, 2 * index, normal)
        for f in range(len(plain)):
            sweep(
                plans[0], sizes[0], sizes[1], modes[f * size : (f + 1) * size], values[f, :points], scratch, workspace
            )
        terms(values, grid, p, neighbours, raw)
        for f in range(len(plain)):
            sweep(plans[1], sizes[1], sizes[0], raw[f], modes[f * size : (f + 1) * size], scratch, workspace)
        relax(modes, decay, scale, address, halves * index + halves - 1, normal)


@njit(cache=True, nogil=True, error_model="numpy")
def multiplicative(modes, old, driven, decay, gain, push, scale, address, step, steps, normal, space, work):
    """Steps modes = decay modes + gain F + push (g(u) dW), with the noise multiplied on the grid.

    `terms` has the noise of each field behind its other inputs, and the noise term of each behind its other outputs.
    """
    _, plans, sizes, _, plain, _, eigenvalues, _, _, _ = space
    values, raw, _, scratch, workspace = work
    size, points = len(eigenvalues), raw.shape[1]
    fields, batch = len(plain), modes.shape[1]
    for index in range(step, step + steps):
        for quad in range((modes.shape[0] + 3) // 4):
            draw(normal, address, index, quad)
            for row in range(min(4, modes.shape[0] - 4 * quad)):
                for b in range(batch):
                    driven[4 * quad + row, b] = scale[4 * quad + row] * normal[row, b]
        for f in range(fields):
            part, slot = driven[f * size : (f + 1) * size], values.shape[0] - fields + f
            sweep(plans[0], sizes[0], sizes[1], part, values[slot, :points], scratch, workspace)
        force(modes, old, space, work)
        for f in range(fields):
            part, slot = driven[f * size : (f + 1) * size], raw.shape[0] - fields + f
            sweep(plans[1], sizes[1], sizes[0], raw[slot], part, scratch, workspace)
        for i in range(modes.shape[0]):
            for b in range(batch):
                modes[i, b] = decay[i] * modes[i, b] + gain[i] * old[i, b] + push[i] * driven[i, b]
