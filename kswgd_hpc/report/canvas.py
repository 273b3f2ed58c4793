"""The look of all figures, and their encoding for the page."""

from __future__ import annotations

import base64
import io
from contextlib import AbstractContextManager

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

# Okabe and Ito's colours, told apart with any colour vision
BLACK, GREY, BLUE, SKY = "#222222", "#9a9a9a", "#0072b2", "#56b4e9"
ORANGE, VERMILION, GREEN, PURPLE = "#e69f00", "#d55e00", "#009e73", "#cc79a7"
DIVERGING = "RdBu_r"

_WIDTH = 10.0
_DPI = 150
_LEGEND_COLUMNS = 4
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "report",  # the same results give the same page
}


def style() -> AbstractContextManager:
    """Context in which figures are made and encoded: this look, whatever the user's own matplotlib settings."""
    return matplotlib.style.context(["default", _STYLE])


def panels(rows: int, columns: int, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """A figure of page width with rows x columns panels.

    Parameters
    ----------
    rows, columns : number of panels
    height : of one row, in inches, of a width of ten
    shared : `sharex`, `sharey`, `width_ratios` and the like of `Figure.subplots`

    Returns
    -------
    figure, and its (rows * columns,) axes
    """
    figure = Figure(figsize=(_WIDTH, rows * height), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared).ravel()


def grid(count: int, most: int = 3) -> tuple[int, int]:
    """Rows and columns for a number of panels, at most `most` side by side."""
    rows = -(-count // most)
    return rows, -(-count // rows)


def blank(axes: np.ndarray) -> None:
    """Remove panels that are left over."""
    for ax in axes:
        ax.remove()


def legend_above(figure: Figure, ax: Axes) -> None:
    """One legend for all panels, above them, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    figure.suptitle("\n".join([" "] * max(1, -(-len(labels) // _LEGEND_COLUMNS))))  # keeps its place free
    figure.legend(handles, labels, loc="upper center", ncols=_LEGEND_COLUMNS)


def whole_decades(ax: Axes) -> None:
    """Widen a logarithmic vertical axis to powers of ten."""
    low, high = np.log10(ax.get_ylim())
    ax.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))


def plain_logarithm(axis: Axis) -> None:
    """Marks at 1, 2 and 5 of each decade of a logarithmic axis, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def image_panel(ax: Axes) -> None:
    """Prepare a panel for a picture: a frame, no grid lines over it."""
    ax.grid(False)
    ax.spines[["top", "right"]].set_visible(True)


def encode(figure: Figure) -> str:
    """Data address of a figure: SVG, in which rasterised parts are pictures of 150 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
