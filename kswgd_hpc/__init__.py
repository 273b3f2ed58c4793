"""kswgd-hpc: stochastic PDEs through Koopman spectra, on one core or a thousand ranks."""

__version__ = "0.1.0"
