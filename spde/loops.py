"""The time loops in mode space: transforms, nonlinear terms, noise and linear part of many steps in one compiled call.

Arrays are (fields * modes, batch) or (slots, points, batch), trajectories contiguous. On two and more axes the grid is
worked on slab by slab (a slab is one point of the first axis), so that what is wide stays in the cache.

The arguments `space`, `address` and `work` carry what all loops share, see `spde.forces.Force`:

* space : (terms, plans, sizes, derivatives, plain, conserved, noise, eigenvalues, neighbours, grid, parameters);
  terms(values, grid, parameters, neighbours, out) computes the nonlinear terms at the points of a slab, and is the only
  part that is compiled for an equation
* address : of the noise, see `spde.driving.draw`
* work : (values, raw, extra, wide, scratch, workspace, transform), arrays for one batch width, and `one_axis` compiled
"""

import warnings

from spde.compiling import njit
from spde.driving import draw, keep
from spde.fft_kernels import apply
from spde.functions import called

warnings.filterwarnings("ignore", message="First-class function type feature is experimental")


def one_axis(plan, source, target, workspace):
    """Transform along one axis, see `spde.fft_kernels.apply`; compiled as a C function, once for all loops."""
    apply(plan, source, target, workspace)


@njit(nogil=True, error_model="numpy")
def sweep(plans, given, wanted, first, last, source, target, work):
    """Transform an array along the axes first ... last - 1, one after the other.

    Parameters
    ----------
    plans : one transform for each axis
    given, wanted : (axes,) sizes of the axes before and after
    source, target : contiguous; sizes of the axes from `first` on, those beyond `last` as given, times the batch
    """
    called()
    scratch, workspace, transform = work[4], work[5], work[6]
    half, start, end = len(scratch) // 2, source.reshape(-1), target.reshape(-1)
    rest = start.size
    for a in range(first, last):
        rest //= given[a]
    for a in range(first, last):
        outer, inner = 1, rest
        for b in range(first, a):
            outer *= wanted[b]
        for b in range(a + 1, last):
            inner *= given[b]
        n, m = given[a], wanted[a]
        here, there = half * ((a - first + 1) % 2), half * ((a - first) % 2)
        before = start if a == first else scratch[here : here + outer * n * inner]
        after = end if a == last - 1 else scratch[there : there + outer * m * inner]
        transform(plans[a], before.reshape((outer, n, inner)), after.reshape((outer, m, inner)), workspace[a])


@njit(nogil=True, error_model="numpy")
def widen(modes, driven, space, work):
    """First axis of everything that goes onto the grid: fields, their derivatives along it, noise."""
    called()
    _, plans, sizes, derivatives, plain, _, noise, eigenvalues, _, _, _ = space
    wide = work[3]
    size, fields = len(eigenvalues), len(plain)
    for f in range(fields):
        part = modes[f * size : (f + 1) * size]
        sweep(plans[0], sizes[0], sizes[1], 0, 1, part, wide[f], work)
        if len(noise):
            part, slot = driven[f * size : (f + 1) * size], fields + len(derivatives) + f
            sweep(plans[0], sizes[0], sizes[1], 0, 1, part, wide[slot], work)
    for d in range(len(derivatives)):
        f, axis = derivatives[d]
        if axis == 0:
            part = modes[f * size : (f + 1) * size]
            sweep(plans[2], sizes[0], sizes[1], 0, 1, part, wide[fields + d], work)


@njit(nogil=True, error_model="numpy")
def fill(values, slot, plans, sizes, modes, f, slab, wide_slot, space, work):
    """values[slot] on a slab from `modes` of field f, or from what `widen` made of them."""
    called()
    size, slabs = len(space[7]), space[9].shape[0]
    wide = work[3]
    target, axes = values[slot, : space[9].shape[2]], sizes.shape[1]
    if slabs == 1:
        part = modes[f * size : (f + 1) * size]
        sweep(plans, sizes[0], sizes[1], 0, axes, part, target, work)
    else:
        sweep(plans, sizes[0], sizes[1], 1, axes, wide[wide_slot, slab], target, work)


@njit(cache=True, nogil=True, error_model="numpy")
def force(modes, out, driven, space, work):
    """out = F(modes): reaction, flux divergence and Laplacian of the potential; `driven` = noise term of `driven`.

    `driven` is the noise in modes, multiplied by its amplitude on the grid; it is not touched for additive noise.
    """
    called()
    terms, plans, sizes, derivatives, plain, conserved, noise, eigenvalues, neighbours, grid, p = space
    values, raw, extra, wide = work[0], work[1], work[2], work[3]
    size, fields, axes, slabs = len(eigenvalues), len(plain), sizes.shape[1], grid.shape[0]
    inputs, outputs = values.shape[0], raw.shape[0]
    if slabs > 1:
        widen(modes, driven, space, work)
    for slab in range(slabs):
        for f in range(fields):
            fill(values, f, plans[0], sizes, modes, f, slab, f, space, work)
            if len(noise):
                slot = fields + len(derivatives) + f
                fill(values, slot, plans[0], sizes, driven, f, slab, slot, space, work)
        for d in range(len(derivatives)):
            f, axis = derivatives[d]
            # along the first axis the derivative is taken already where there are slabs
            taken = slabs > 1 and axis == 0
            plan = plans[0] if taken else plans[2 + axis]
            fill(values, fields + d, plan, sizes, modes, f, slab, fields + d if taken else f, space, work)
        terms(values, grid[slab], p, neighbours, raw)
        if slabs > 1:
            for o in range(outputs):
                sweep(plans[1], sizes[1], sizes[0], 1, axes, raw[o], wide[inputs + o, slab], work)
    for f in range(fields):
        target = out[f * size : (f + 1) * size]
        if plain[f] >= 0:
            narrow(plain[f], target, inputs, space, work)
        else:
            for j in range(size):
                for b in range(target.shape[1]):
                    target[j, b] = 0.0
        if conserved[f] >= 0:
            narrow(conserved[f], extra, inputs, space, work)
            for j in range(size):
                for b in range(target.shape[1]):
                    target[j, b] -= eigenvalues[j] * extra[j, b]
        if len(noise):
            narrow(noise[f], driven[f * size : (f + 1) * size], inputs, space, work)


@njit(nogil=True, error_model="numpy")
def narrow(output, target, inputs, space, work):
    """Modes of one output of the nonlinear terms."""
    called()
    plans, sizes, slabs = space[1], space[2], space[9].shape[0]
    raw, wide = work[1], work[3]
    if slabs == 1:
        sweep(plans[1], sizes[1], sizes[0], 0, sizes.shape[1], raw[output], target, work)
    else:
        sweep(plans[1], sizes[1], sizes[0], 0, 1, wide[inputs + output], target, work)


@njit(nogil=True, error_model="numpy")
def drive(modes, force_values, decay, gain, scale, address, step, normal):
    """modes = decay modes + gain force + scale N(0, 1), in place."""
    called()
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
    called()
    for quad in range((modes.shape[0] + 3) // 4):
        draw(normal, address, step, quad)
        for row in range(min(4, modes.shape[0] - 4 * quad)):
            i = 4 * quad + row
            state, n = modes[i], normal[row]
            for b in range(modes.shape[1]):
                state[b] = decay[i] * state[b] + scale[i] * n[b]


@njit(cache=True, nogil=True, error_model="numpy")
def linear(modes, decay, scale, address, step, steps, normal, trace):
    """Steps of an equation without a force."""
    for index in range(step, step + steps):
        relax(modes, decay, scale, address, index, normal)
        keep(modes, trace, index - step)


@njit(cache=True, nogil=True, error_model="numpy")
def additive(modes, old, new, decay, gain, scale, correction, address, step, steps, normal, trace, space, work):
    """Steps of a scheme of one stage, or of two where `correction` is not empty; see `Coefficients`."""
    for index in range(step, step + steps):
        force(modes, old, old, space, work)
        drive(modes, old, decay, gain, scale, address, index, normal)
        if len(correction):
            force(modes, new, new, space, work)
            for i in range(modes.shape[0]):
                for b in range(modes.shape[1]):
                    modes[i, b] += correction[i] * (new[i, b] - old[i, b])
        keep(modes, trace, index - step)


@njit(cache=True, nogil=True, error_model="numpy")
def splitting(modes, moved, decay, scale, halves, address, step, steps, normal, trace, space, work):
    """Steps of a splitting: the terms are the flow of the reaction over one step.

    halves : 1 for flow then linear part (Lie), 2 for linear part over half a step before and after the flow (Strang)
    """
    for index in range(step, step + steps):
        if halves == 2:
            relax(modes, decay, scale, address, 2 * index, normal)
        force(modes, moved, moved, space, work)
        for i in range(modes.shape[0]):
            for b in range(modes.shape[1]):
                modes[i, b] = moved[i, b]
        relax(modes, decay, scale, address, halves * index + halves - 1, normal)
        keep(modes, trace, index - step)


@njit(cache=True, nogil=True, error_model="numpy")
def multiplicative(modes, old, driven, decay, gain, push, scale, address, step, steps, normal, trace, space, work):
    """Steps modes = decay modes + gain F + push (g(u) dW), with the noise multiplied on the grid."""
    batch = modes.shape[1]
    for index in range(step, step + steps):
        for quad in range((modes.shape[0] + 3) // 4):
            draw(normal, address, index, quad)
            for row in range(min(4, modes.shape[0] - 4 * quad)):
                for b in range(batch):
                    driven[4 * quad + row, b] = scale[4 * quad + row] * normal[row, b]
        force(modes, old, driven, space, work)
        for i in range(modes.shape[0]):
            for b in range(batch):
                modes[i, b] = decay[i] * modes[i, b] + gain[i] * old[i, b] + push[i] * driven[i, b]
        keep(modes, trace, index - step)
