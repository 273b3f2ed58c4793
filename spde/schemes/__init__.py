"""Time stepping, one scheme (or family) a file; `choose` picks by name, or by equation.

For additive noise a scheme for c' = -a c + F(c) + q dW/dt (mode by mode, rate a) is a table of stage coefficients;
splittings, noise that is multiplied by the field, and fused steps on a grid are steppers of their own.
"""

from __future__ import annotations

from spde.errors import SpdeError
from spde.schemes import euler_maruyama, exponential_euler, exponential_heun, multiplicative, semi_implicit, splitting
from spde.schemes.grid import GridStepper, is_local
from spde.schemes.modes import ModeStepper
from spde.schemes.multiplicative import MultiplicativeStepper
from spde.schemes.splitting import SplittingStepper
from spde.stepping import Stepper

ADDITIVE = {
    "euler_maruyama": euler_maruyama.coefficients,
    "semi_implicit": semi_implicit.coefficients,
    "exponential_euler": exponential_euler.coefficients,
    "exponential_heun": exponential_heun.coefficients,
}
SCHEMES = (*ADDITIVE, *splitting.SCHEMES, "milstein")


def automatic(equation) -> tuple[str, str]:
    """The scheme that suits an equation, and why."""
    if equation.is_multiplicative:
        own = all(law.depends_on_itself_alone(equation.names) for law in equation.laws)
        if own:
            return "milstein", "multiplicative noise, pointwise and so commuting: strong order 1, linear part exact"
        return "exponential_euler", "noise of one field multiplied by another does not commute: strong order 1/2"
    if equation.is_linear:
        return "exponential_euler", "linear equation: exact at any step"
    return "exponential_heun", "additive noise: linear part and its noise exact, weak order 2"


def choose(equation, scheme: str = "auto") -> tuple[str, str]:
    """Name of the scheme for an equation that a name stands for, and why.

    Parameters
    ----------
    equation : `SemilinearEquation`
    scheme : a name of `SCHEMES`, or auto

    Raises
    ------
    SpdeError : an unknown scheme, or one that does not fit the equation
    """
    if scheme == "auto":
        return automatic(equation)
    if scheme not in SCHEMES:
        raise SpdeError(f"scheme {scheme!r} is not one of {', '.join(SCHEMES)}")
    known = multiplicative.SCHEMES if equation.is_multiplicative else (*ADDITIVE, *splitting.SCHEMES)
    if scheme not in known:
        noise = "multiplicative" if equation.is_multiplicative else "additive"
        raise SpdeError(f"scheme {scheme!r} is not for {noise} noise: use auto or one of {', '.join(known)}")
    if scheme in splitting.SCHEMES and equation.is_linear:
        return "exponential_euler", f"a linear equation has nothing to split off, so {scheme} is exact"
    return scheme, "as asked"


def stepper(equation, time_step: float, scheme: str = "auto") -> Stepper:
    """Stepper of an equation; see `choose`."""
    name, reason = choose(equation, scheme)
    if is_local(equation, name):
        return GridStepper(equation, time_step, name, reason)
    if equation.is_multiplicative:
        return MultiplicativeStepper(equation, time_step, name, reason)
    if name in splitting.SCHEMES:
        return SplittingStepper(equation, time_step, name, reason)
    coefficients = ADDITIVE[name](equation.rates, equation.scales, time_step)
    return ModeStepper(equation, coefficients, time_step, name, reason)
