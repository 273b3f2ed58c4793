"""The part of an equation's drift that is not linear and diagonal, evaluated on the grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numba import float64, typeof, void

from spde import loops
from spde.codegen import load, pointwise
from spde.compiling import cfunc
from spde.domain import Domain
from spde.driving import Direct
from spde.expressions import symbols
from spde.formulas import Law, abstract
from spde.transforms import Transform


class Force:
    """F(c) of dc = (-rates c + F(c)) dt + noise: reaction, flux divergence and Laplacian of the potential, in modes.

    A flux f(u) enters through the chain rule with the field's derivative in a spectral method, whose grid has no
    aliasing at its degree. In finite differences it is the difference of the mean of f along the segments from a value
    to its neighbours, by Simpson's rule: conservative, and for cubic f free of spurious production of entropy (Tadmor
    1987), so that Burgers' equation keeps white noise invariant (Sasamoto and Spohn 2009).

    Parameters
    ----------
    domain : of the fields
    laws : one for each field
    names : of the fields
    noise : formulas of the noise term of each field in the symbols `_noise0`, ... (and the fields), none if additive
    body : lines in the place of the reactions' formulas, see `codegen.pointwise`
    """

    def __init__(
        self, domain: Domain, laws: Sequence[Law], names: Sequence[str], noise: Sequence = (), body: Sequence[str] = ()
    ):
        self.domain = domain
        terms = _GridTerms(domain, laws, names) if domain.is_grid else _SpectralTerms(domain, laws, names)
        outputs, plain, conserved = [], np.full(len(laws), -1), np.full(len(laws), -1)
        for f, law in enumerate(laws):
            for slots, formula in ((plain, law.reaction + terms.divergence(law)), (conserved, law.potential)):
                if formula != 0 or (body and slots is plain):
                    slots[f] = len(outputs)
                    outputs.append(formula)
        outputs.extend(noise)
        inputs = [*terms.inputs, *(f"_noise{f}" for f in range(len(noise)))]
        formulas, parameters, values = abstract(() if body else outputs)
        grid = _grid_functions(domain, laws, outputs)
        source = pointwise("terms", formulas or outputs, inputs, list(grid), parameters, terms.shifted, body)
        kernel = load(source).terms
        slots = len(outputs) - len(noise) + np.arange(len(noise))
        self._slots = len(inputs), len(outputs), bool((conserved >= 0).any())
        derivatives = np.array(terms.derivatives, dtype=np.int64).reshape(-1, 2)
        # neighbours may lie in another slab
        slabs = 1 if terms.shifted or domain.dimensions == 1 else domain.grid_shape[0]
        self._slab = domain.grid_size // slabs
        neighbours = domain.neighbours if terms.shifted else np.zeros((2, 1, 1), dtype=np.int64)
        table = np.array(list(grid.values())).reshape(len(grid), slabs, self._slab)
        table = np.ascontiguousarray(table.transpose(1, 0, 2))
        places = (derivatives, plain, conserved, slots, domain.eigenvalues, neighbours)
        self.space = (kernel, *_plans(domain), *places, table, values)
        self._work: tuple = (0, ())
        self._evaluate = Direct(loops.force)

    def __call__(self, modes: np.ndarray) -> np.ndarray:
        """F of modes (d, batch), (d, batch), without noise terms; not to be called by two threads at once."""
        modes = np.ascontiguousarray(modes, dtype=float)
        out = np.empty_like(modes)
        self._evaluate(modes, out, out, self.space, self.work(modes.shape[1]))
        return out

    def work(self, batch: int) -> tuple:
        """Scratch arrays for batches of one width, kept until another width is asked for."""
        if self._work[0] != batch:
            inputs, outputs, conserved = self._slots
            domain, slabs = self.domain, self.domain.grid_size // self._slab
            # a row of zeros behind the points is the neighbour of those at a Dirichlet boundary
            values = np.zeros((inputs, self._slab + 1, batch))
            raw = np.empty((outputs, self._slab, batch))
            extra = np.empty((domain.size if conserved else 0, batch))
            rows = domain.size // domain.shape[0] * batch
            wide = np.empty((inputs + outputs if slabs > 1 else 0, slabs, rows))
            scratch = np.empty(2 * self._slab * batch if domain.dimensions > 1 else 0)
            workspace = tuple(axis.transform.workspace() for axis in domain.axes)
            self._work = (batch, (values, raw, extra, wide, scratch, workspace, _transform()))
        return self._work[1]


@cache
def _transform():
    """`loops.one_axis`, compiled to a C function: its machine code is made once, not for every loop that calls it."""
    plan = Transform("cosine", 1.0, 2, 2).plans.synthesis
    field = float64[:, :, ::1]
    return cfunc(void(typeof(plan), field, field, float64[::1]), cache=True)(loops.one_axis)


def _plans(domain: Domain) -> tuple:
    """Per kind of sweep the plans of all axes: synthesis, analysis, then the derivative along each axis; sizes."""
    forward = [axis.transform.plans.synthesis for axis in domain.axes]
    plans = [tuple(forward), tuple(axis.transform.plans.analysis for axis in domain.axes)]
    for a, axis in enumerate(domain.axes):
        plans.append((*forward[:a], axis.transform.plans.derivative_synthesis, *forward[a + 1 :]))
    return tuple(plans), np.array([domain.shape, domain.grid_shape])


def _grid_functions(domain: Domain, laws: Sequence[Law], formulas: Sequence) -> dict[str, np.ndarray]:
    """Coordinates and further functions of space that occur in formulas."""
    known = {**domain.coordinates, **{name: f for law in laws for name, f in law.grid_functions.items()}}
    used = {str(s) for formula in formulas for s in formula.free_symbols}
    return {name: values for name, values in known.items() if name in used}


class _SpectralTerms:
    """Flux divergence sum_a sum_g df_a/dg * dg/dx_a, with derivatives of fields as further inputs."""

    shifted = ()

    def __init__(self, domain: Domain, laws: Sequence[Law], names: Sequence[str]):
        import sympy

        self._names = names
        self.derivatives = []
        for a in range(domain.dimensions):
            for g, name in enumerate(names):
                u = symbols([name])[0]
                if any(law.flux and sympy.diff(law.flux[a], u) != 0 for law in laws):
                    self.derivatives.append((g, a))
        self.inputs = [*names, *(f"_d{g}_{a}" for g, a in self.derivatives)]

    def divergence(self, law: Law):
        import sympy

        total = sympy.Integer(0)
        for g, a in self.derivatives:
            if law.flux:
                u, slope = symbols([self._names[g], f"_d{g}_{a}"])
                total += sympy.diff(law.flux[a], u) * slope
        return total


class _GridTerms:
    """Flux divergence by differences of segment means, with neighbours of fields as further inputs."""

    derivatives = ()

    def __init__(self, domain: Domain, laws: Sequence[Law], names: Sequence[str]):
        self._domain, self._names = domain, names
        axes = [a for a in range(domain.dimensions) if any(law.flux and law.flux[a] != 0 for law in laws)]
        self.shifted = tuple(
            (f"_{'lr'[side]}{g}_{a}", g, a, side) for a in axes for g in range(len(names)) for side in (0, 1)
        )
        self.inputs = list(names)

    def divergence(self, law: Law):
        import sympy

        total = sympy.Integer(0)
        here = dict(enumerate(symbols(self._names)))
        for a, flux in enumerate(law.flux):
            if flux == 0:
                continue
            for side, sign in ((0, -1), (1, 1)):
                there = {g: symbols([f"_{'lr'[side]}{g}_{a}"])[0] for g in here}
                half = {here[g]: (here[g] + there[g]) / 2 for g in here}
                full = {here[g]: there[g] for g in here}
                mean = 4 * flux.subs(half, simultaneous=True) + flux.subs(full, simultaneous=True)
                total += sign * mean / (6 * sympy.Float(self._domain.axes[a].spacing))
        return sympy.expand(total) if total.is_polynomial() else total
