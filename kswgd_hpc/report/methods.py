"""Names and colours of the methods that a study compares."""

from __future__ import annotations

from kswgd_hpc.report import canvas

COLOURS = {
    "kswgd": canvas.BLUE,
    "langevin": canvas.BLACK,
    "mala": canvas.GREY,
    "pcn": canvas.ORANGE,
    "svgd": canvas.VERMILION,
    "lawgd": canvas.SKY,
    "dmps": canvas.GREEN,
    "mmd_flow": canvas.PURPLE,
    "kde_langevin": "#8c6d31",
}
NAMES = {
    "kswgd": "KSWGD",
    "langevin": "Langevin",
    "mala": "MALA",
    "pcn": "pCN",
    "svgd": "SVGD",
    "lawgd": "LAWGD, exact spectrum",
    "dmps": "DMPS",
    "mmd_flow": "MMD flow",
    "kde_langevin": "KDE Langevin",
}
