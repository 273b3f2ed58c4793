"""Numbers as text: as many digits as they deserve, a dash where there is none."""

from __future__ import annotations

import numpy as np

NONE = "–"
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def number(value: float, digits: int = 4) -> str:
    """A real number, or a dash where it is not finite; thousands are written out."""
    if not np.isfinite(value):
        return NONE
    text = f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return text.replace("-", "−")


def error(value: float) -> str:
    """An error, to two digits."""
    return number(value, 2)


def complex_number(value: complex, digits: int = 4) -> str:
    """A complex number; a real one without its imaginary part."""
    if not abs(value.imag) > 1e-9 * abs(value):
        return number(value.real, digits)
    sign = "+" if value.imag > 0 else "−"
    return f"{number(value.real, digits)} {sign} {number(abs(value.imag), digits)}i"


def symbol(letter: str, index: int) -> str:
    """A letter with a subscript."""
    return letter + str(index).translate(_SUBSCRIPTS)


def count(quantity: int, noun: str) -> str:
    """A number of things: 1 mode, 2 modes."""
    return f"{quantity:,} {noun}{'' if quantity == 1 else 's'}".replace(",", "\u202f")
