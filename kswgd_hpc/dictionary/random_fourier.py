"""Random Fourier features: waves in random directions, whose span approximates that of all Gaussians of one width."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, eye_array

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.contractions import form, quadratic
from spde.random import normals, uniforms


class RandomFourierDictionary:
    """psi_i(z) = sqrt(2) cos(w_i . z + b_i), w_i normal of deviation 1 / h, b_i uniform on the circle.

    Their kernel mean is exp(-|z - z'|^2 / (2 h^2)). They need no centres, hence suit many coordinates; being waves
    they go on beyond the data, where transport should not be asked to start.

    Parameters
    ----------
    frequencies : (c, p) w
    phases : (p,) b

    Source: Rahimi and Recht 2007.
    """

    kind = "random_fourier"
    bound = float(np.sqrt(2.0))
    smoothness = 2
    sparse = False
    partition = False

    def __init__(self, frequencies: np.ndarray, phases: np.ndarray):
        self.frequencies = frequencies
        self.phases = phases
        self.size = len(phases)

    @classmethod
    def drawn(cls, coordinates: int, size: int, bandwidth: float, seed: int, stream: int) -> RandomFourierDictionary:
        """Features from counters: the same on every rank; those of a smaller dictionary are the first of a larger."""
        frequencies = normals(np.empty((coordinates, size)), seed, stream, 0, 0) / bandwidth
        return cls(frequencies, 2 * np.pi * uniforms(np.empty((1, size)), seed, stream, 0, 1)[0])

    def _phase(self, z: np.ndarray) -> np.ndarray:
        return z @ self.frequencies + self.phases

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) values at the (n, c) points z."""
        return np.sqrt(2.0) * array_module(z).cos(self._phase(z))

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights."""
        return (array_module(z).sin(self._phase(z)) * (-np.sqrt(2.0) * weights)) @ self.frequencies.T

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k)."""
        sine = -np.sqrt(2.0) * array_module(z).sin(self._phase(z))
        return array_module(z).stack([sine @ (w[:, None] * weights) for w in self.frequencies], axis=2)

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Sum over points of grad psi_i . K grad psi_j, (p, p)."""
        sine = np.sqrt(2.0) * array_module(z).sin(self._phase(z))
        if mobility.ndim == 3:
            return form([sine * w for w in self.frequencies], mobility, columns)
        return (sine.T @ sine[:, columns]) * (self.frequencies.T @ mobility @ self.frequencies[:, columns])

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of G psi; arguments as for GaussianDictionary."""
        xp, phase = array_module(z), self._phase(z)
        action = xp.sin(phase) * (drift @ self.frequencies)
        action += xp.cos(phase) * quadratic(mobility, self.frequencies.T)
        return -np.sqrt(2.0) * action

    def coarsening(self) -> csr_array:
        """(p, p // 2) map to half as many functions: the first."""
        return eye_array(self.size, max(1, self.size // 2), format="csr")

    def parameters(self) -> dict[str, np.ndarray]:
        """What `RandomFourierDictionary` is made from."""
        return {"frequencies": self.frequencies, "phases": self.phases}
