"""Names and colours of the methods that are compared, and of the statistics that they are compared in."""

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
    "lawgd": "LAWGD, exact",
    "dmps": "DMPS",
    "mmd_flow": "MMD flow",
    "kde_langevin": "KDE Langevin",
}
TITLES = {
    "energy_distance": "energy distance",
    "mmd": "MMD",
    "sliced_wasserstein": "sliced Wasserstein",
    "occupation": "occupation",
    "spatial_mean": "spatial mean",
    "structure_factor": "structure factor",
    "two_point_correlation": "two-point correlation",
    "energy": "energy",
}
MEANING = {
    "energy_distance": "energy distance: 2 E|X−Y| − E|X−X′| − E|Y−Y′|",
    "mmd": "MMD: root of the squared discrepancy, Gaussian kernel with the reference's median distance for all methods",
    "sliced_wasserstein": "sliced Wasserstein: W₂ over 128 fixed directions",
    "occupation": "occupation: total variation of the shares of the named sets",
    "spatial_mean": "spatial mean: W₁ of its law",
    "structure_factor": "structure factor: root mean square relative error of the first 16 modes",
    "two_point_correlation": "two-point correlation: largest error of ⟨u(x₀)u(x)⟩, relative",
    "energy": "energy: error of its mean in standard deviations",
}
