"""report.html: what a run found, as one page with figures, for reading and for printing.

The only package that imports matplotlib. `view` reads the results, each section has a module that makes its figures,
tables and finding, `page` turns sections into HTML.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from kswgd_hpc.report import (
    canvas,
    feynman_kac,
    kinetics,
    page,
    particles,
    rivals,
    spectrum,
    summary,
    trajectory,
    transitions,
    view,
)

if TYPE_CHECKING:
    from mpi4py import MPI

SECTIONS = (
    spectrum.rates,
    spectrum.eigenfunctions,
    kinetics.timescales,
    kinetics.singular_values,
    transitions.transitions,
    trajectory.trajectory,
    particles.laws,
    particles.convergence,
    rivals.rivals,
    feynman_kac.comparisons,
)
_BY_COST = (  # the longest to draw first
    spectrum.eigenfunctions,
    particles.convergence,
    trajectory.trajectory,
    feynman_kac.comparisons,
    spectrum.rates,
    kinetics.timescales,
    particles.laws,
    transitions.transitions,
    rivals.rivals,
    kinetics.singular_values,
)


def write(path: Path, comm: MPI.Comm) -> Path:
    """Write report.html beside a results file, in one move; sections whose data are missing are left out. Collective.

    Parameters
    ----------
    path : results.h5
    comm : of ranks that all see the file; they share out the sections, and rank 0 writes the page

    Returns
    -------
    path of the page, which needs no other file
    """
    run = view.load(path)
    with canvas.style():
        made = {SECTIONS.index(make): make(run) for make in _dealt(comm.rank, comm.size)}
        shares = comm.gather({i: page.drawn(section) for i, section in made.items() if section is not None})
        if comm.rank == 0:
            found = dict(itertools.chain.from_iterable(share.items() for share in shares))
            sections = [summary.summary(run), *(found[i] for i in sorted(found))]
            page.write(path.parent, page.render(run.title, sections, run.attributes.get("config", "")))
    return path.parent / page.NAME


def _dealt(rank: int, ranks: int) -> list:
    """The sections that a rank makes, dealt to and fro so that all have as much to do."""
    return [make for i, make in enumerate(_BY_COST) if min(i % (2 * ranks), 2 * ranks - 1 - i % (2 * ranks)) == rank]
