"""The terms of an equation as SymPy formulas, sorted into what is linear and diagonal and what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spde.errors import SpdeError
from spde.expressions import Expression, symbols

_UNKNOWN_DEGREE = 3  # of a term that is no polynomial: the grid is as fine as for a cubic one


@dataclass(frozen=True)
class Law:
    """One field's terms, numbers in the place of parameters: see `spde.equations.Field` for their meaning.

    Parameters
    ----------
    damping : linear damping taken out of the reaction, 1 / time
    reaction, potential, flux : SymPy formulas of what is left
    amplitude : a number, or a formula where the noise is multiplicative
    grid_functions : name -> (grid_size,) values of further symbols in the formulas
    """

    name: str
    diffusivity: float
    hyperdiffusivity: float
    damping: float
    reaction: object
    potential: object
    flux: tuple
    amplitude: object
    grid_functions: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, terms, names, coordinates, parameters: Mapping[str, float], dimensions: int) -> Law:
        """Parse the terms of a `Field`; names are those of all fields."""
        values = dict(zip(symbols(parameters), parameters.values(), strict=True))

        def parse(text, where: tuple[str, ...], what: str):
            try:
                return Expression(text, (*where, *parameters)).symbolic().subs(values)
            except SpdeError as error:
                raise type(error)(f"{what}: {error}") from error

        def number(text, what: str) -> float:
            return float(parse(text, (), what))

        if len(terms.flux) not in (0, dimensions):
            raise SpdeError(f"flux: {len(terms.flux)} entries for {dimensions} axes; give one for each axis")
        u = symbols([terms.name])[0]
        diffusivity = number(terms.diffusivity, "diffusivity")
        potential = parse(terms.potential, names, "potential")
        stable = _stable_slope(potential, u)
        damping, reaction = _without_damping(parse(terms.reaction, (*names, *coordinates), "reaction"), u)
        amplitude = parse(terms.amplitude, (*names, *coordinates), "noise.amplitude")
        return cls(
            terms.name,
            diffusivity + stable,
            number(terms.hyperdiffusivity, "hyperdiffusivity"),
            damping,
            reaction,
            _expanded(potential - stable * u),
            tuple(parse(f, names, "flux") for f in terms.flux),
            float(amplitude) if amplitude.is_number else amplitude,
        )

    @property
    def is_multiplicative(self) -> bool:
        return not isinstance(self.amplitude, float)

    @property
    def is_linear(self) -> bool:
        """Whether nothing is left beside the linear diagonal part."""
        return self.reaction == 0 and self.potential == 0 and all(f == 0 for f in self.flux)

    def depends_on_itself_alone(self, names: Sequence[str]) -> bool:
        """Whether no other field enters the noise amplitude."""
        others = set(names) - {self.name}
        return not self.is_multiplicative or not others & {str(s) for s in self.amplitude.free_symbols}

    @property
    def degree(self) -> int:
        """Polynomial degree of the nonlinear terms in the fields, the highest product that is projected."""
        import sympy

        terms = [self.reaction, self.potential, *self.flux]
        if self.is_multiplicative:
            terms.append(self.amplitude * symbols([self.name])[0])  # times noise, which has all wavenumbers
        degrees = [1]
        for term in terms:
            fields = [s for s in sympy.sympify(term).free_symbols if str(s) not in ("x", "y", "z")]
            if not fields:
                continue
            smooth = term.is_polynomial(*fields)
            degrees.append(sympy.Poly(term, *fields).total_degree() if smooth else _UNKNOWN_DEGREE)
        return max(degrees)

    def with_ito_correction(self, variance: np.ndarray) -> Law:
        """The same equation with Stratonovich noise of pointwise variance (grid_size,) written as Ito noise."""
        import sympy

        if not self.is_multiplicative:
            return self
        u, c = symbols([self.name, "_variance"])
        drift = self.amplitude * sympy.diff(self.amplitude, u) * c / 2
        return replace(
            self,
            reaction=_expanded(self.reaction + drift),
            grid_functions={**self.grid_functions, "_variance": variance},
        )


def wick(law: Law, names: Sequence[str], dimensions: int, variance: np.ndarray) -> Law:
    """The law with Wick powers H_k(u; C) in the place of its reaction's powers u^k, C(x) the linear field's variance.

    Source: Da Prato and Debussche 2003; H_{k+1} = u H_k - k C H_{k-1}.

    Raises
    ------
    SpdeError : other than two dimensions, or a reaction that is no polynomial in the field
    """
    import sympy

    u, c = symbols([law.name, "_wick"])
    if dimensions != 2:
        raise SpdeError(f"noise.renormalization: Wick renormalisation is for two dimensions, not {dimensions}")
    if len(names) > 1 or any(law.flux) or law.potential != 0 or not law.reaction.is_polynomial(u):
        raise SpdeError(
            "noise.renormalization: Wick powers need one field whose only nonlinear term is a polynomial reaction"
        )
    powers = [sympy.Integer(1), u]
    coefficients = sympy.Poly(law.reaction, u).all_coeffs()[::-1]
    while len(powers) < len(coefficients):
        k = len(powers) - 1
        powers.append(sympy.expand(u * powers[-1] - k * c * powers[-2]))
    reaction = sum(a * h for a, h in zip(coefficients, powers))
    return replace(law, reaction=sympy.expand(reaction), grid_functions={**law.grid_functions, "_wick": variance})


def _without_damping(reaction, u) -> tuple[float, object]:
    """Linear damping of a reaction (its slope at zero where negative), and what is left of it."""
    import sympy

    zero = {s: 0 for s in reaction.free_symbols if str(s) not in ("x", "y", "z")}
    slope = sympy.diff(reaction, u).subs(zero)
    damped = slope.is_number and slope.is_real and slope.is_finite and slope < 0
    damping = -float(slope) if damped else 0.0
    rest = _expanded(reaction + damping * u) if damped else _expanded(reaction)
    if damped and rest.is_polynomial(u):
        linear = rest.coeff(u, 1)
        if linear.is_number and abs(float(linear)) < 1e-12 * damping:
            rest = rest - linear * u  # what rounding left of the part that is taken out
    return damping, rest


def _stable_slope(potential, u) -> float:
    """Largest slope of p at its zeros, where positive: the diffusion about a stable phase, taken implicitly."""
    import sympy

    if potential == 0 or potential.free_symbols - {u} or not potential.is_polynomial(u):
        return 0.0
    slope = sympy.diff(potential, u)
    roots = np.roots([float(a) for a in sympy.Poly(potential, u).all_coeffs()])
    return max([0.0, *(float(slope.subs(u, root.real)) for root in roots if abs(root.imag) < 1e-9)])


def _expanded(formula):
    """Polynomials expanded, so that terms that cancel do; anything else as it is."""
    import sympy

    return sympy.expand(formula)


def abstract(formulas: Sequence, reserved: str = "p") -> tuple[list, list[str], np.ndarray]:
    """Formulas with symbols in place of their floating-point numbers: one kernel serves all parameter values.

    Returns
    -------
    formulas, names of the symbols, their values
    """
    import sympy

    # exponents stay numbers: a power of one half is a square root
    exponents = {p.exp for f in formulas for p in sympy.sympify(f).atoms(sympy.Pow) if p.exp.is_number}
    found = sorted({a for f in formulas for a in sympy.sympify(f).atoms(sympy.Float)} - exponents, key=float)
    names = [f"{reserved}{k}" for k in range(len(found))]
    swap = dict(zip(found, sympy.symbols(names, real=True) if names else [], strict=True))
    return [sympy.sympify(f).xreplace(swap) for f in formulas], names, np.array([float(v) for v in found])
