"""Finite-difference steps fused with their noise: a row of points is driven, reacted and solved while it is in cache.

One field, noise independent from point to point. `reaction` and `amplitude` are placeholders:
`codegen.specialise` makes a copy of this module with an equation's formulas in their place.

State arrays are (points + 1, batch), trajectories contiguous; the last row stays zero and is the neighbour of points at
a Dirichlet boundary.
"""

from spde.compiling import njit
from spde.driving import draw, keep

MULTIPLICATIVE = False  # whether the noise is multiplied by amplitude(u)


@njit(error_model="numpy")
def reaction(u, x, y, z, p):
    """Reaction without its linear damping."""
    return 0.0 * u


@njit(error_model="numpy")
def amplitude(u, x, y, z, p):
    """Noise amplitude g."""
    return 1.0


@njit(error_model="numpy")
def _source(u, normal, x, y, z, p, h, scale):
    """h r(u) + scale g(u) N."""
    if MULTIPLICATIVE:
        return h * reaction(u, x, y, z, p) + scale * amplitude(u, x, y, z, p) * normal
    return h * reaction(u, x, y, z, p) + scale * normal


@njit(cache=True, nogil=True, error_model="numpy")
def explicit(states, left, right, weights, damping, grid, p, h, scale, address, step, steps, normal, trace):
    """Euler-Maruyama steps u' = u + h (nu Laplacian u - damping u + r(u)) + scale g(u) N.

    Parameters
    ----------
    states : (2, points + 1, batch), the first holds the state; the result is in states[steps % 2]
    left, right : (axes, points) neighbours, the index `points` where the field is zero outside
    weights : (axes,) h nu / spacing**2
    damping : h times the linear damping
    grid : (3, points) coordinates
    p : parameters of the formulas
    scale : amplitude sqrt(h / cell)
    address : of the noise, see `spde.driving.draw`
    step, steps : index of the first step, number of steps
    normal : (4, batch) scratch
    trace : (steps, points, batch) every step, or empty
    """
    axes, points = left.shape
    batch = states.shape[2]
    for index in range(steps):
        old, new = states[index % 2], states[(index + 1) % 2]
        for quad in range((points + 3) // 4):
            draw(normal, address, step + index, quad)
            for row in range(min(4, points - 4 * quad)):
                i = 4 * quad + row
                x, y, z = grid[0, i], grid[1, i], grid[2, i]
                l, r, w = left[0, i], right[0, i], weights[0]
                for b in range(batch):
                    u = old[i, b]
                    change = w * (old[l, b] - 2.0 * u + old[r, b]) - damping * u
                    new[i, b] = u + (change + _source(u, normal[row, b], x, y, z, p, h, scale))
                for a in range(1, axes):
                    l, r, w = left[a, i], right[a, i], weights[a]
                    for b in range(batch):
                        new[i, b] += w * (old[l, b] - 2.0 * old[i, b] + old[r, b])
        keep(new[:points], trace, index)


@njit(cache=True, nogil=True, error_model="numpy")
def semi_implicit(state, pivot, weight, wrap, grid, p, h, scale, address, step, steps, normal, trace):
    """Semi-implicit steps (1 + h damping - h nu Laplacian) u' = u + h r(u) + scale g(u) N on an interval, in place.

    The tridiagonal matrix is factorised once; elimination goes down with the noise, substitution up.

    Parameters
    ----------
    state : (points + 1, batch)
    pivot : (points,) reciprocal pivots of the factorised matrix
    weight : h nu / spacing**2, minus the entries beside the diagonal
    wrap : (points + 1,) rank-one correction of a periodic axis: vector, and the last entry's ratio; empty otherwise
    """
    points, batch = state.shape[0] - 1, state.shape[1]
    for index in range(steps):
        for quad in range((points + 3) // 4):
            draw(normal, address, step + index, quad)
            for row in range(min(4, points - 4 * quad)):
                i = 4 * quad + row
                x, y, z = grid[0, i], grid[1, i], grid[2, i]
                above = i - 1 if i > 0 else points
                m = pivot[i]
                for b in range(batch):
                    u = state[i, b]
                    right = u + _source(u, normal[row, b], x, y, z, p, h, scale)
                    state[i, b] = (right + weight * state[above, b]) * m
        for i in range(points - 2, -1, -1):
            g = weight * pivot[i]
            for b in range(batch):
                state[i, b] += g * state[i + 1, b]
        if len(wrap):
            ratio = wrap[points]
            for b in range(batch):
                normal[0, b] = state[0, b] + ratio * state[points - 1, b]
            for i in range(points):
                c = wrap[i]
                for b in range(batch):
                    state[i, b] -= c * normal[0, b]
        keep(state[:points], trace, index)
