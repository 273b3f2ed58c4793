"""Compiled loops over records whose few features that are not zero are products of factors.

Record m has the features with indices sum_a index[m, a, t_a] and values prod_a factor[m, a, t_a], over all (t_a);
a negative index is padding. `place` turns such an index into that among the functions in use, or into their number p
where it is not: arrays over functions have one more entry, which takes what belongs to none.
"""

from __future__ import annotations

import numpy as np

from spde.compiling import njit


@njit(cache=True)
def _expand(index, factor, m, ids, values):
    """Indices and values of the products of all factors but the last; returns their number."""
    ids[0], values[0] = 0, 1.0
    size, width = 1, index.shape[2]
    for a in range(index.shape[1] - 1):
        for s in range(size - 1, -1, -1):  # from the end: in place
            base, value = ids[s], values[s]
            for t in range(width - 1, -1, -1):
                step = index[m, a, t]
                ids[s * width + t] = base + step if base >= 0 and step >= 0 else -1
                values[s * width + t] = value * factor[m, a, t]
        size *= width
    return size


@njit(cache=True)
def count_visits(index, factor, weight, scale, totals):
    """totals[i] += sum of feature i times weight, in integer multiples of 1 / scale: the same bits in any order."""
    last, width = index.shape[1] - 1, index.shape[2]
    ids, values = np.empty(width**last, np.int64), np.empty(width**last)
    for m in range(len(index)):
        for s in range(_expand(index, factor, m, ids, values)):
            for t in range(width if ids[s] >= 0 else 0):
                step = index[m, last, t]
                if step >= 0:
                    value = values[s] * factor[m, last, t]
                    totals[ids[s] + step] += np.int64(np.rint(value * weight[m] * scale))


@njit(cache=True)
def combine(index, factor, place, coefficients):
    """(n, r) values of combinations of the features, coefficients (p + 1, r)."""
    last, width = index.shape[1] - 1, index.shape[2]
    ids, values = np.empty(width**last, np.int64), np.empty(width**last)
    found = np.zeros((len(index), coefficients.shape[1]))
    for m in range(len(index)):
        for s in range(_expand(index, factor, m, ids, values)):
            for t in range(width if ids[s] >= 0 else 0):
                step = index[m, last, t]
                if step >= 0:
                    row, value = place[ids[s] + step], values[s] * factor[m, last, t]
                    for r in range(coefficients.shape[1]):
                        found[m, r] += value * coefficients[row, r]
    return found


@njit(cache=True)
def gather(index, factor, place, coefficients, found):
    """found[m] = sum of the features times coefficients (p + 1,)."""
    last, width = index.shape[1] - 1, index.shape[2]
    ids, values = np.empty(width**last, np.int64), np.empty(width**last)
    for m in range(len(index)):
        total = 0.0
        for s in range(_expand(index, factor, m, ids, values)):
            part = 0.0
            for t in range(width if ids[s] >= 0 else 0):
                step = index[m, last, t]
                if step >= 0:
                    part += factor[m, last, t] * coefficients[place[ids[s] + step]]
            total += values[s] * part
        found[m] = total


@njit(cache=True)
def spread(index, factor, place, weights, totals):
    """totals (p + 1,) += sum over records of the features times weights (n,)."""
    last, width = index.shape[1] - 1, index.shape[2]
    ids, values = np.empty(width**last, np.int64), np.empty(width**last)
    for m in range(len(index)):
        weight = weights[m]
        if weight == 0.0:
            continue
        for s in range(_expand(index, factor, m, ids, values)):
            value = values[s] * weight
            for t in range(width if ids[s] >= 0 else 0):
                step = index[m, last, t]
                if step >= 0:
                    totals[place[ids[s] + step]] += value * factor[m, last, t]


@njit(cache=True)
def group_edges(ids):
    """Starts of the stretches of equal rows of ids (n, k), and n."""
    edges = [0]
    for m in range(1, len(ids)):
        for t in range(ids.shape[1]):
            if ids[m, t] != ids[m - 1, t]:
                edges.append(m)
                break
    edges.append(len(ids))
    return np.array(edges)


@njit(cache=True)
def _columns_of(ids, indptr, indices, slot, columns):
    """Columns (free coefficients) that a row of ids takes part in, through the rows of P; `slot` is where each is."""
    count = 0
    for i in ids:
        if i >= 0:
            for t in range(indptr[i], indptr[i + 1]):
                column = indices[t]
                if slot[column] < 0:
                    slot[column] = count
                    columns[count] = column
                    count += 1
    return count


@njit(cache=True)
def columns_of_groups(ids, indptr, indices, size):
    """Of each row of ids (groups, k), the columns that it takes part in: pointers and columns."""
    slot, columns = np.full(size, -1, np.int64), np.empty(size, np.int64)
    pointers = np.zeros(len(ids) + 1, np.int64)
    for fill in (False, True):
        found = np.empty(pointers[-1] if fill else 0, np.int32)
        for g in range(len(ids)):
            count = _columns_of(ids[g], indptr, indices, slot, columns)
            for s in range(count):
                slot[columns[s]] = -1
                if fill:
                    found[pointers[g] + s] = columns[s]
            if not fill:
                pointers[g + 1] = pointers[g] + count
    return pointers, found


@njit(cache=True)
def pattern(pointers, columns, back, groups, size):
    """Pattern by rows, columns ascending, of a matrix in which columns of one group meet.

    pointers, columns : of groups, see `columns_of_groups`; back, groups : of each column, the groups that it is in
    """
    seen = np.full(size, -1, np.int64)
    rows = np.zeros(size + 1, np.int64)
    for fill in (False, True):
        found = np.empty(rows[-1] if fill else 0, np.int32)
        seen[:] = -1
        for i in range(size):
            count = 0
            for t in range(back[i], back[i + 1]):
                g = groups[t]
                for s in range(pointers[g], pointers[g + 1]):
                    j = columns[s]
                    if seen[j] != i:
                        seen[j] = i
                        if fill:
                            found[rows[i] + count] = j
                        count += 1
            if fill:
                found[rows[i] : rows[i + 1]].sort()
            else:
                rows[i + 1] = rows[i] + count
    return rows, found


@njit(cache=True)
def add_forms(edges, ids, left, right, indptr, indices, weights, rows, columns, data):
    """data += sum over records of L R^T, L and R (k, c) pulled back to the free coefficients by P.

    edges, ids : stretches of records with the same indices, (n, k)
    left, right : (n, k, c); indptr, indices, weights : rows of P; rows, columns, data : the matrix, see `pattern`
    """
    size, c = len(rows) - 1, left.shape[2]
    slot, taken = np.full(size, -1, np.int64), np.empty(size, np.int64)
    for e in range(len(edges) - 1):
        first, last = edges[e], edges[e + 1]
        count = _columns_of(ids[first], indptr, indices, slot, taken)
        mine = np.sort(taken[:count])
        for s in range(count):
            slot[mine[s]] = s
        block = np.zeros((count, count))
        a, b = np.empty((c, count)), np.empty((c, count))
        for m in range(first, last):
            a[:], b[:] = 0.0, 0.0
            for t in range(ids.shape[1]):
                i = ids[m, t]
                if i >= 0:
                    for u in range(indptr[i], indptr[i + 1]):
                        s = slot[indices[u]]
                        for x in range(c):
                            a[x, s] += weights[u] * left[m, t, x]
                            b[x, s] += weights[u] * right[m, t, x]
            for x in range(c):
                for s in range(count):
                    value = a[x, s]
                    for t in range(count):
                        block[s, t] += value * b[x, t]
        for s in range(count):
            place, end = rows[mine[s]], rows[mine[s] + 1]
            for t in range(count):
                place += np.searchsorted(columns[place:end], mine[t])
                data[place] += block[s, t]
            slot[mine[s]] = -1
