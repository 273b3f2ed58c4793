"""Drifts of the named equations against formulas written out, in one to three dimensions; splittings; Wick powers."""

import numpy as np
import pytest
from fields import custom, named
from scipy.integrate import solve_ivp

from spde.catalogue import CATALOGUE
from spde.domain import Domain, Interval
from spde.errors import SpdeError
from spde.expressions import symbols
from spde.noise import Covariance
from spde.schemes.splitting import exact_flow
from spde.stepping import Noise

SMOOTH = Covariance("matern", 0.4, smoothness=2.0)
BOUNDARIES = ("periodic", "neumann", "dirichlet")


def neighbours(u, axis, boundary):
    """Left and right neighbours of a field (..., batch), with the ghost values of the boundary condition."""
    u = np.moveaxis(u, axis, 0)
    first = {"periodic": u[-1:], "neumann": u[:1], "dirichlet": 0 * u[:1]}[boundary]
    last = {"periodic": u[:1], "neumann": u[-1:], "dirichlet": 0 * u[:1]}[boundary]
    left, right = np.concatenate([first, u[:-1]]), np.concatenate([u[1:], last])
    return np.moveaxis(left, 0, axis), np.moveaxis(right, 0, axis)


def laplacian(u, domain):
    total = 0.0
    for a, axis in enumerate(domain.axes):
        left, right = neighbours(u, a, axis.boundary)
        total = total + (left - 2 * u + right) / axis.spacing**2
    return total


def burgers_flux(u, domain, velocity=None):
    """Divergence of -u^2 / 2 (or of -a u) as difference of segment means."""
    total = 0.0
    for a, axis in enumerate(domain.axes):
        left, right = neighbours(u, a, axis.boundary)
        if velocity is None:
            total = total - (right**2 + u * right - u * left - left**2) / (6 * axis.spacing)
        else:
            total = total - velocity[a] * (right - left) / (2 * axis.spacing)
    return total


DRIFTS = {
    "heat": ({"nu": 0.3, "damping": 0.2}, lambda u, L, d: 0.3 * L(u) - 0.2 * u),
    "allen_cahn": ({"nu": 0.3}, lambda u, L, d: 0.3 * L(u) + u - u**3),
    "ginzburg_landau": ({"nu": 0.3, "a": 1.5, "b": 0.7}, lambda u, L, d: 0.3 * L(u) + 1.5 * u - 0.7 * u**3),
    "sine_gordon": ({"nu": 0.3, "a": 1.2}, lambda u, L, d: 0.3 * L(u) - 1.2 * np.sin(u)),
    "nagumo": ({"nu": 0.3, "a": 0.4}, lambda u, L, d: 0.3 * L(u) + u * (1 - u) * (u - 0.4)),
    "burgers": ({"nu": 0.3}, lambda u, L, d: 0.3 * L(u) + burgers_flux(u, d)),
    "kuramoto_sivashinsky": ({"nu": 0.1}, lambda u, L, d: -L(u) - 0.1 * L(L(u)) + burgers_flux(u, d)),
    "cahn_hilliard": ({"nu": 0.1}, lambda u, L, d: L(u**3 - u - 0.1 * L(u))),
    "swift_hohenberg": ({"r": 0.5, "g": 0.3}, lambda u, L, d: -0.5 * u - 2 * L(u) - L(L(u)) + 0.3 * u**2 - u**3),
    "advection_diffusion": ({"nu": 0.3, "advection": 0.8}, None),
}


def sample(domain, fields=1, seed=1):
    return np.random.default_rng(seed).normal(size=(fields * domain.size, 3))


DOMAINS = [
    *(Domain.box(2.5, 24, boundary) for boundary in BOUNDARIES),
    Domain.box([2.0, 1.5], [12, 9], ["periodic", "neumann"]),
    Domain.box([2.0, 1.5, 1.7], [6, 5, 7], ["dirichlet", "periodic", "neumann"]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: "-".join(a.boundary for a in d.axes))
@pytest.mark.parametrize("name", DRIFTS)
def test_drift_in_finite_differences_is_the_formula(name, domain):
    parameters, formula = DRIFTS[name]
    equation = named(name, domain, 0.5, parameters, SMOOTH)
    u = sample(domain)
    shaped = u.reshape(*domain.shape, 3)
    operator = lambda v: laplacian(v, domain)  # noqa: E731
    if name == "advection_diffusion":
        expected = 0.3 * operator(shaped) + burgers_flux(shaped, domain, [0.8, 0.0, 0.0])
    else:
        expected = formula(shaped, operator, domain)
    np.testing.assert_allclose(equation.drift(u).reshape(shaped.shape), expected, atol=1e-10 * np.abs(expected).max())


def test_two_fields_react_with_each_other():
    domain = Domain.box([2.0, 1.5], [12, 9], "neumann")
    values = {"nu": 0.3, "nu_v": 0.1, "epsilon": 0.2, "a": 0.6, "b": 0.9, "current": 0.4}
    equation = named("fitzhugh_nagumo", domain, [0.5, 0.1], values, SMOOTH)
    states = sample(domain, 2)
    u, v = (part.reshape(*domain.shape, 3) for part in np.split(states, 2))
    expected = [
        0.3 * laplacian(u, domain) + u - u**3 / 3 - v + 0.4,
        0.1 * laplacian(v, domain) + 0.2 * (u + 0.6 - 0.9 * v),
    ]
    found = [part.reshape(u.shape) for part in np.split(equation.drift(states), 2)]
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert equation.dimension == 2 * domain.size
    half = domain.size
    np.testing.assert_allclose(equation.scales[half:], equation.scales[:half] / 5)


@pytest.mark.parametrize(
    ("name", "boundary"),
    # even powers of sines are no sine series: with Dirichlet ends no finite grid projects them exactly
    [(name, "periodic") for name in ("burgers", "kuramoto_sivashinsky", "cahn_hilliard", "swift_hohenberg", "nagumo")]
    + [(name, "dirichlet") for name in ("burgers", "kuramoto_sivashinsky", "cahn_hilliard", "swift_hohenberg")]
    + [("nagumo", "neumann"), ("swift_hohenberg", "neumann")],
)
def test_spectral_drift_is_the_projection_without_aliasing(name, boundary):
    """The drift of the lowest modes does not change when the same field is given with eight times as many modes."""
    small, large = (named(name, Interval(3.0, n, boundary, "spectral"), 0.5) for n in (9, 72))
    modes = np.random.default_rng(2).normal(size=(9, 2))
    padded = np.zeros((72, 2))
    padded[:9] = modes
    np.testing.assert_allclose(
        small.drift(modes), large.drift(padded)[:9], atol=1e-9 * np.abs(small.drift(modes)).max()
    )


@pytest.mark.parametrize("name", ["burgers", "cahn_hilliard", "advection_diffusion", "allen_cahn", "fitzhugh_nagumo"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_finite_differences_converge_to_the_spectral_drift_with_order_two(name, boundary):
    errors = []
    for n in (40, 80, 160):
        coarse = named(name, Interval(3.0, n, boundary), 0.5)
        exact = named(name, Interval(3.0, n, boundary, "spectral"), 0.5)
        fields = len(exact.names)
        modes = np.zeros((fields, n, 1))
        modes[:, 1:4, 0] = [0.5, -0.3, 0.2]
        spectral = exact.drift(modes.reshape(-1, 1)).reshape(fields, n)[:, :6]
        grid = np.concatenate([coarse.domain.synthesis(m) for m in modes])
        found = coarse.to_modes(coarse.drift(grid)).reshape(fields, n)[:, :6]
        errors.append(np.abs(found - spectral).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.25)


@pytest.mark.parametrize("kind", ["finite_difference", "spectral"])
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_cahn_hilliard_conserves_mass_to_rounding(kind, boundary):
    equation = named("cahn_hilliard", Domain.box([2.0, 3.0], [12, 14], boundary, kind), 0.4, {"nu": 0.05}, SMOOTH)
    start = equation.from_fields(
        0.3 + sample(equation.domain.for_degree(3) if kind == "spectral" else equation.domain)
        if kind == "finite_difference"
        else np.full((equation.domain.grid_size, 3), 0.3)
    )
    end = equation.stepper(1e-3).advance(start, Noise(1, 1, 0), 0, 200)
    before, after = (equation.fields(states).mean(axis=0) for states in (start, end))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-13)
    assert np.abs(end - start).max() > 1e-2


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_burgers_flux_neither_makes_nor_destroys_energy_on_a_grid(boundary):
    """sum u d/dx(u^2 / 2) = 0 for the difference of segment means: white noise stays invariant."""
    equation = named("burgers", Interval(2.0, 30, boundary), 0.5, {"nu": 0.0})
    u = np.random.default_rng(5).normal(size=(30, 4))
    produced = (u * equation.drift(u)).sum(axis=0)
    at_ends = {"periodic": 0.0, "dirichlet": 0.0, "neumann": (u[0] ** 3 - u[-1] ** 3) / 3 / equation.domain.cell}[
        boundary
    ]
    np.testing.assert_allclose(produced, at_ends, atol=1e-11)


def test_energy_of_cahn_hilliard_and_swift_hohenberg_decays_without_noise():
    domain = Domain.box(12.0, 64, "periodic")
    for name, nu in (("cahn_hilliard", 0.1), ("swift_hohenberg", None)):
        equation = named(name, domain, 1e-12, {"nu": nu} if nu else {"r": 0.5})
        states, energies = 0.5 * sample(domain), []
        stepper = equation.stepper(2e-3)
        for step in range(0, 400, 20):
            u, gradient = states, laplacian(states, domain)
            if nu:
                energies.append((-nu * u * gradient / 2 + (u**2 - 1) ** 2 / 4).sum(axis=0))
            else:
                energies.append(((u + gradient) ** 2 / 2 - 0.25 * u**2 + u**4 / 4).sum(axis=0))
            states = stepper.advance(states, Noise(1, 1, 0), step, 20)
        assert (np.diff(energies, axis=0) < 0).all()


# Wick powers


def test_wick_renormalisation_replaces_the_cubic_by_its_hermite_polynomial():
    domain = Domain.box([2.0, 3.0], [16, 12], ["periodic", "neumann"])
    sigma, nu = 0.6, 0.4
    equation = named("allen_cahn", domain, sigma, {"nu": nu}, renormalize=True)
    rates = nu * domain.eigenvalues + 1.0
    variance = domain.modes(np.arange(domain.size)) ** 2 @ (sigma**2 / (2 * rates))
    u = sample(domain)
    expected = nu * laplacian(u.reshape(16, 12, 3), domain).reshape(-1, 3) + u - (u**3 - 3 * variance[:, None] * u)
    np.testing.assert_allclose(equation.drift(u), expected, atol=1e-10)


def test_wick_renormalised_field_converges_under_refinement_where_the_plain_one_does_not():
    """P(2)_2: mean square of the lowest modes at time 1, over grids twice as fine; without counterterm it falls."""
    found = []
    for n in (8, 16, 32):
        domain = Domain.box([4.0, 4.0], n, "periodic")
        equation = named("ginzburg_landau", domain, 1.0, {"nu": 0.3, "a": 0.0, "b": 1.0}, renormalize=True)
        states = equation.stepper(0.02).advance(np.zeros((domain.size, 600)), Noise(3, 1, 0), 0, 50)
        found.append((equation.mode_map(5) @ states) ** 2)
    low = np.array([f.mean(axis=1).sum() for f in found])
    errors = np.array([f.sum(axis=0).std() / np.sqrt(f.shape[1]) for f in found])
    assert abs(low[2] - low[1]) < 3 * np.hypot(errors[1], errors[2]) + 0.05 * low[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Domain.box(1.0, 8), 1.0, "u - u**3", 0.5), "two dimensions, not 1"),
        ((Domain.box([1.0, 1.0], 8), 1.0, "sin(u)", 0.5), "polynomial reaction"),
        ((Domain.box([1.0, 1.0], 8), 1.0, "u - u**3", "1 + u**2"), "additive noise"),
    ],
)
def test_wick_renormalisation_is_refused_where_it_has_no_meaning(arguments, message):
    with pytest.raises(SpdeError, match=message):
        custom(*arguments, renormalize=True)


# pointwise flows


@pytest.mark.parametrize(
    "reaction",
    ["3*u - u**3", "-u**3", "-2*u - 0.5*u**3", "u*(1 - u)", "0.3 - 1.5*u", "2 - u - u**2", "-1.3*sin(u)", "0.7*sin(u)"],
)
def test_closed_flow_is_the_solution_of_the_reaction(reaction):
    import sympy

    u = symbols(["u"])[0]
    formula = sympy.sympify(reaction, locals={"u": u})
    flow = exact_flow(formula.evalf(), u, 0.7)
    right, closed = (
        sympy.lambdify(u, formula),
        sympy.lambdify(u, flow.replace(sympy.Function("rsqrt"), lambda z: z**-0.5)),
    )
    for start in (-1.4, -0.2, 0.0, 0.5, 0.99, 5.0 if "sin" in reaction or "**3" in reaction else 1.7):
        if reaction == "u*(1 - u)" and start < 0:
            continue
        exact = solve_ivp(lambda _t, y: right(y), (0, 0.7), [start], rtol=1e-11, atol=1e-12, method="DOP853").y[0, -1]
        np.testing.assert_allclose(float(closed(start)), exact, rtol=1e-8, atol=1e-10)


def test_flows_without_closed_form_are_left_to_runge_kutta():
    u = symbols(["u"])[0]
    for formula in (u**3, u**2 + 1, u - u**5, u * (1 - u) * (u - 0.3)):
        assert exact_flow(formula, u, 0.1) is None


@pytest.mark.parametrize("name", ["nagumo", "allen_cahn", "sine_gordon", "fitzhugh_nagumo"])
@pytest.mark.parametrize(("scheme", "order"), [("lie_splitting", 1), ("strang_splitting", 2)])
def test_splittings_have_their_order_in_time_without_noise(name, scheme, order):
    equation = named(name, Interval(4.0, 12), 1e-13, {"nu": 0.5})
    grid = equation.domain.coordinates["x"]
    start = np.concatenate([np.cos(np.pi * grid / 4) * (1.5 - f) + 0.2 for f in range(len(equation.names))])[:, None]
    exact = solve_ivp(
        lambda _t, y: equation.drift(y[:, None])[:, 0], (0, 1), start[:, 0], method="LSODA", rtol=1e-11, atol=1e-12
    ).y[:, -1]
    errors = [
        np.abs(equation.stepper(1 / n, scheme).advance(start, Noise(1, 1, 0), 0, n)[:, 0] - exact).max()
        for n in (32, 64, 128)
    ]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), order, atol=0.15)


def test_splittings_refuse_what_has_no_pointwise_flow():
    for name in ("burgers", "cahn_hilliard"):
        with pytest.raises(SpdeError, match="lie_splitting splits off a reaction"):
            named(name, Interval(4.0, 12), 0.1).stepper(0.01, "lie_splitting")


def test_every_named_equation_says_which_scheme_it_takes_and_why():
    for name in CATALOGUE:
        scheme, reason = named(name, Interval(4.0, 12, "periodic"), 0.1).choose_scheme()
        assert scheme == ("exponential_euler" if name == "heat" else "exponential_heun")
        assert ("exact" in reason) == (name in CATALOGUE)
    scheme, reason = custom(Interval(4.0, 12), 1.0, "-u", "cos(u)").choose_scheme()
    assert scheme == "milstein" and "strong order 1" in reason


def test_an_equation_without_dissipation_is_refused():
    for terms in ({"nu": -1.0}, {"nu": 1.0, "hyperdiffusivity": -0.1}):
        with pytest.raises(SpdeError, match="without dissipation at high wavenumbers"):
            custom(Interval(1.0, 8), terms.pop("nu"), "u", 0.5, **terms)
    custom(Interval(1.0, 8), -1.0, "u", 0.5, hyperdiffusivity=0.1)


@pytest.mark.parametrize(
    ("name", "covariance", "reversible"),
    [
        ("heat", SMOOTH, True),
        ("allen_cahn", Covariance(), True),
        ("allen_cahn", SMOOTH, False),
        ("cahn_hilliard", Covariance(), True),
        ("swift_hohenberg", Covariance(), True),
        ("burgers", Covariance(), False),
        ("advection_diffusion", Covariance(), False),
        ("fitzhugh_nagumo", Covariance(), False),
    ],
)
def test_detailed_balance_is_known(name, covariance, reversible):
    assert named(name, Interval(3.0, 12, "periodic"), 0.5, covariance=covariance).reversible is reversible


def test_coordinates_leave_out_modes_that_no_noise_moves():
    conserved = named("cahn_hilliard", Interval(3.0, 12), 0.5)
    np.testing.assert_allclose(conserved.mode_map(3) @ np.ones(12), 0, atol=1e-13)
    free = named("allen_cahn", Interval(3.0, 12), 0.5)
    np.testing.assert_allclose(free.mode_map(3) @ np.ones(12), [np.sqrt(3.0), 0, 0], atol=1e-13)
