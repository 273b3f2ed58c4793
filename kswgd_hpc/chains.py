"""Sums over pairs that follow each other along a trajectory, in fewer products than one by one.

A pair gives psi(x) psi(x)^T + psi(y) psi(y)^T and psi(x) psi(y)^T + psi(y) psi(x)^T from two products, those of
psi(x) + psi(y) and psi(x) - psi(y) with themselves. Over a path of records 0, 1, ..., m, whose m pairs are neighbours,
both sums are quadratic forms of the records, and they are diagonal together: in the cosine transforms

    chi_k = sum_j d_j cos(pi k j / m) psi_j / sqrt(m or, of k = 0 and m, 2 m),   d = 1, 2, ..., 2, 1,   k = 0..m,

the first is sum_k chi_k chi_k^T, the second sum_k cos(pi k / m) chi_k chi_k^T: m + 1 products for m pairs, where those
of each k are added up apart. The antisymmetric psi(x) psi(y)^T - psi(y) psi(x)^T of two pairs that follow each other is
(psi_0 - psi_2) psi_1^T less its transpose.
"""

from __future__ import annotations

import numpy as np

from spde.compiling import njit

_TILE = 64


def paths(first: np.ndarray, second: np.ndarray, longest: int) -> list[np.ndarray]:
    """Pairs of records as paths, (k, m + 1) records each, m = longest, longest / 2, ..., 1: every pair is in one.

    Parameters
    ----------
    first, second : (s,) records of the two ends of each pair
    longest : m of the longest, 1, 2 or 4
    """
    found, done, step = [], 0, int(second[0] - first[0])
    m = longest if (np.diff(first) == 1).all() and (second - first == step).all() and step > 0 else 1
    while m > 1:
        count = (len(first) - done) // (m * step)
        starts = np.add.outer(np.arange(count) * m * step, np.arange(step)).ravel() + done
        found.append(first[starts][:, None] + step * np.arange(m + 1))
        done += count * m * step
        m //= 2
    found.append(np.stack([first[done:], second[done:]], axis=1))
    return [path for path in found if len(path)]


def transformed(features: np.ndarray, path: np.ndarray) -> np.ndarray:
    """(m + 1, k n, p) transforms chi of features (records, n, p) along paths (k, m + 1)."""
    out = np.empty((path.shape[1], len(path), *features.shape[1:]))
    _transform(features, path, out)
    return out.reshape(len(out), -1, features.shape[2])


def turns(features: np.ndarray, found: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """u, w (l n, p): over all pairs of the paths psi(x) psi(y)^T - psi(y) psi(x)^T is u^T w - w^T u."""
    triples = [path[:, i : i + 3] for path in found for i in range(0, path.shape[1] - 2, 2)]
    triples += [np.pad(path, ((0, 0), (0, 1)), constant_values=-1) for path in found if path.shape[1] == 2]
    index = np.concatenate(triples)
    u, w = (np.empty((len(index), *features.shape[1:])) for _ in range(2))
    _turn(features, index, u, w)
    return u.reshape(-1, u.shape[2]), w.reshape(-1, w.shape[2])


@njit(cache=True)
def _transform(features, path, out):
    """out[k, s, t] = chi_k of trajectory t along path s of one, two or four pairs, features (records, n, p)."""
    m, root = path.shape[1] - 1, np.sqrt(2.0)
    for s in range(path.shape[0]):
        for t in range(features.shape[1]):
            if m == 4:
                _four(features, path[s], t, out[:, s, t], root)
            elif m == 2:
                a, b, c, whole, half, back = (
                    features[path[s, 0], t],
                    features[path[s, 1], t],
                    features[path[s, 2], t],
                    out[0, s, t],
                    out[1, s, t],
                    out[2, s, t],
                )
                for i in range(len(a)):
                    ends = 0.5 * (a[i] + c[i])
                    whole[i], half[i], back[i] = ends + b[i], (a[i] - c[i]) / root, ends - b[i]
            else:
                a, b, whole, back = features[path[s, 0], t], features[path[s, 1], t], out[0, s, t], out[1, s, t]
                for i in range(len(a)):
                    whole[i], back[i] = (a[i] + b[i]) / root, (a[i] - b[i]) / root


@njit(cache=True)
def _four(features, path, t, out, root):
    a, b, c = features[path[0], t], features[path[1], t], features[path[2], t]
    d, e = features[path[3], t], features[path[4], t]
    first, second, third, fourth, fifth = out[0], out[1], out[2], out[3], out[4]
    for i in range(len(a)):
        ends, beside = a[i] + e[i], root * 0.5 * (b[i] + d[i])
        even, odd = 0.25 * root * (ends + 2.0 * c[i]), 0.5 * (a[i] - e[i])
        turned = 0.5 * root * (b[i] - d[i])
        first[i], fifth[i] = even + beside, even - beside
        second[i], fourth[i] = odd + turned, odd - turned
        third[i] = 0.5 * ends - c[i]


@njit(cache=True)
def _turn(features, index, u, w):
    """u[s] = features[i] - features[k], w[s] = features[j] for (i, j, k) = index[s]; k = -1 for nothing."""
    for s in range(len(index)):
        before, here, after = index[s]
        for t in range(features.shape[1]):
            for i in range(features.shape[2]):
                u[s, t, i] = features[before, t, i] - (features[after, t, i] if after >= 0 else 0.0)
                w[s, t, i] = features[here, t, i]


@njit(cache=True)
def fold(first, second, parts, values, factor, triangle):
    """first += factor sum_k parts[k], second += sum_k values[k] parts[k], parts = 0.

    first, second : (n, m); parts : (K, n, m); triangle : entry (i, j) is looked at only for j <= i
    """
    for i in range(first.shape[0]):
        stop = min(i + 1, first.shape[1]) if triangle else first.shape[1]
        for k in range(len(parts)):
            row, a, b, value = parts[k, i, :stop], first[i, :stop], second[i, :stop], values[k]
            for j in range(stop):
                a[j] += factor * row[j]
                b[j] += value * row[j]
                row[j] = 0.0


@njit(cache=True)
def fold_turns(total, cross, turn):
    """total += (cross + turn - turn^T) / 2 for square matrices, of cross the lower triangle; they become zero."""
    n = len(total)
    for a in range(0, n, _TILE):
        for b in range(0, a + _TILE, _TILE):
            for i in range(a, min(a + _TILE, n)):
                for j in range(b, min(b + _TILE, i + 1)):
                    even, odd = 0.5 * cross[i, j], 0.5 * (turn[i, j] - turn[j, i])
                    total[i, j] += even + odd
                    if i != j:
                        total[j, i] += even - odd
                    cross[i, j] = turn[i, j] = turn[j, i] = 0.0
