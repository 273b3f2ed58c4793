"""Time stepping, one scheme a file; `SCHEMES` maps the name in the configuration to it.

A scheme for a semilinear equation c' = -a c + F(c) + q dW/dt (mode by mode, rate a) is a table of
coefficients: decay, gain and scale of its (first) stage, and the gain of a correcting second stage.
"""

from __future__ import annotations

from spde.schemes import euler_maruyama, exponential_euler, exponential_heun, semi_implicit

SCHEMES = {
    "euler_maruyama": euler_maruyama.coefficients,
    "semi_implicit": semi_implicit.coefficients,
    "exponential_euler": exponential_euler.coefficients,
    "exponential_heun": exponential_heun.coefficients,
}
