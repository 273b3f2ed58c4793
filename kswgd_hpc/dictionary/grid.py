"""Regular grids of cells on the coordinates, by index arithmetic alone: no list of cells is ever made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.backend import array_module


@dataclass(frozen=True)
class Grid:
    """`cells` equal cells between `low` and `high` on each coordinate.

    low, high : (c,) range; the period where `periodic`
    cells : (c,) integers
    periodic : (c,) booleans
    """

    low: np.ndarray
    high: np.ndarray
    cells: np.ndarray
    periodic: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """(c,) width of a cell."""
        return (self.high - self.low) / self.cells

    def locate(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells and places in them of points (n, c); beyond a range, the nearest place of the range.

        Returns
        -------
        cell : (n, c) integers; place : (n, c) between 0 and 1; inside : (n, c) whether z was not moved to the range
        """
        xp = array_module(z)
        u = (z - self.low) / self.spacing
        inside = self.periodic | ((u >= 0) & (u <= self.cells))
        u = xp.where(self.periodic, u - self.cells * xp.floor(u / self.cells), xp.clip(u, 0, self.cells))
        cell = xp.minimum(xp.floor(u), self.cells - 1)
        return cell.astype(np.int64), u - cell, inside

    def halved(self, least: int = 2) -> dict[str, np.ndarray] | None:
        """Parameters of the grid of half as many cells; None where that is no number, or fewer than `least`."""
        cells = self.cells // 2
        return {**self.parameters(), "cells": cells} if not (self.cells % 2).any() and cells.min() >= least else None

    def parameters(self) -> dict[str, np.ndarray]:
        """What the grid is made from."""
        return {"low": self.low, "high": self.high, "cells": self.cells, "periodic": self.periodic}


def strides(counts: np.ndarray) -> np.ndarray:
    """(c,) weights that turn c indices, the last fastest, into one."""
    return np.append(np.cumprod(counts[:0:-1])[::-1], 1).astype(np.int64)
