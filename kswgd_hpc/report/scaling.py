"""The figure of the command `bench`: how stages scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kswgd_hpc.report import canvas

_COLOURS = (canvas.BLUE, canvas.VERMILION, canvas.GREEN, canvas.ORANGE, canvas.PURPLE, canvas.SKY)


def draw(measured: dict[str, dict[int, dict]], path: Path) -> None:
    """Seconds against ranks of the longest stages and of all, on logarithmic axes, with the ideal; one panel a study.

    Parameters
    ----------
    measured : "strong" or "weak" -> ranks -> stage -> {"seconds": ...}
    path : of the picture
    """
    with canvas.style():
        figure, axes = canvas.panels(1, len(measured), 3.6, sharey=True)
        for ax, (name, runs) in zip(axes, measured.items(), strict=True):
            ranks = np.array(sorted(runs))
            first = runs[ranks[0]]
            longest = sorted(first, key=lambda stage: -first[stage]["seconds"])[: len(_COLOURS)]
            for stage, colour in zip(longest, _COLOURS):
                ax.plot(ranks, [runs[n][stage]["seconds"] for n in ranks], "o-", color=colour, ms=4, label=stage)
            whole = np.array([sum(stage["seconds"] for stage in runs[n].values()) for n in ranks])
            ideal = whole[0] * (ranks[0] / ranks if name == "strong" else np.ones(len(ranks)))
            ax.plot(ranks, whole, "o-", color=canvas.BLACK, ms=4, label="all")
            ax.plot(ranks, ideal, "--", color=canvas.GREY, label="ideal")
            ax.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds", title=f"{name} scaling")
            ax.set_xticks(ranks, [str(n) for n in ranks])
            ax.minorticks_off()
        canvas.legend_above(figure, axes[0])
        figure.savefig(path)
