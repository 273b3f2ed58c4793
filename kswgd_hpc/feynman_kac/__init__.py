"""Feynman-Kac: u(x, t) = E_x[f(X_t) exp(-int_0^t c)] from the Koopman operator; `references` checks it.

method.md section 4. Where the drift of the system is known, the generator is what is projected, by least squares on
the states of the ensemble: what the dictionary represents exactly comes out exactly, whatever their law and however
few transitions they made. Otherwise it is the operator of one lag.
"""

from kswgd_hpc.feynman_kac.bands import moments_of_modes
from kswgd_hpc.feynman_kac.case import Case, SmoothFormula, formulas_of, smooth_formulas
from kswgd_hpc.feynman_kac.centres import settled
from kswgd_hpc.feynman_kac.entries import cases_of
from kswgd_hpc.feynman_kac.features import Features, reduced
from kswgd_hpc.feynman_kac.predict import Prediction, predict
from kswgd_hpc.feynman_kac.shapes import factors_of_killing

__all__ = [
    "Case",
    "Features",
    "Prediction",
    "SmoothFormula",
    "cases_of",
    "factors_of_killing",
    "formulas_of",
    "moments_of_modes",
    "predict",
    "reduced",
    "settled",
    "smooth_formulas",
]
