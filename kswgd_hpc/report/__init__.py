"""report.html: what a run found, as one page with figures, for reading and for printing.

The only package that imports matplotlib. `view` reads the results, each section has a module that makes its figures,
tables and finding, `page` turns sections into HTML.
"""

from __future__ import annotations

from pathlib import Path

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


def write(path: Path) -> Path:
    """Write report.html beside a results file, in one move; sections whose data are missing are left out.

    Parameters
    ----------
    path : results.h5

    Returns
    -------
    path of the page, which needs no other file
    """
    run = view.load(path)
    with canvas.style():
        sections = [section for section in (make(run) for make in SECTIONS) if section is not None]
        text = page.render(run.title, [summary.summary(run), *sections], run.attributes.get("config", ""))
    return page.write(Path(path).parent, text)
