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
        made = [make(run) for make in SECTIONS[comm.rank :: comm.size]]
        shares = comm.gather([section and page.drawn(section) for section in made])
        if comm.rank == 0:
            dealt = itertools.chain(*itertools.zip_longest(*shares))
            sections = [summary.summary(run), *(section for section in dealt if section is not None)]
            page.write(path.parent, page.render(run.title, sections, run.attributes.get("config", "")))
    return path.parent / page.NAME
