"""Diffusions from expressions: drift, mobility, invariant laws, orders of convergence of their schemes."""

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from orders import observed_orders, quadrature, strong_errors, weak_errors
from scipy.linalg import expm, solve_continuous_lyapunov, solve_discrete_lyapunov

from spde.diffusion_steppers import transition_law
from spde.diffusions import Diffusion, UnderdampedLangevin, langevin
from spde.errors import BlowUpError, ExpressionError, SpdeError
from spde.expressions import Expression
from spde.mobility import DiagonalField, MobilityField
from spde.stepping import Noise

SCALAR = Diffusion(("x",), ["-sin(x)"], "1 + 0.5*cos(x)")
# noises that do not commute: the second acts along y by an amount that the first changes
PLANE = Diffusion(("x", "y"), ["-sin(x) + 0.3*cos(y)", "-sin(y)"], [["0.8", "0.5*sin(y)"], ["0.9*cos(x)", "0.7"]])
FOUR_WELLS = "(x**2 - 1)**2 + (y**2 - 1)**2"


@pytest.mark.parametrize(
    ("variables", "potential", "function"),
    [
        (("x", "y"), FOUR_WELLS, lambda s: (s[0] ** 2 - 1) ** 2 + (s[1] ** 2 - 1) ** 2),
        (
            ("x", "y", "z"),
            "exp(-x**2)*cos(y) + z**4/4 + 0.3*x*z + sqrt(1 + y**2)",
            lambda s: np.exp(-(s[0] ** 2)) * np.cos(s[1]) + s[2] ** 4 / 4 + 0.3 * s[0] * s[2] + np.hypot(1, s[1]),
        ),
        (("q",), "abs(q)**3 + log(2 + cos(q))", lambda s: np.abs(s[0]) ** 3 + np.log(2 + np.cos(s[0]))),
    ],
)
def test_langevin_drift_is_minus_the_gradient_of_the_potential(variables, potential, function):
    states, h = np.random.default_rng(1).normal(size=(len(variables), 6)), 1e-5
    for temperature in (0.25, 2.0):
        system = langevin(variables, potential, temperature)
        gradient = []
        for i in range(len(variables)):
            shift = h * np.eye(len(variables))[:, [i]]
            gradient.append((function(states + shift) - function(states - shift)) / (2 * h))
        np.testing.assert_allclose(system.drift(states), -np.array(gradient), atol=1e-8)
        np.testing.assert_allclose(system.mobility, np.full(len(variables), temperature))


def test_drift_of_a_general_diffusion_is_what_its_expressions_say():
    system = Diffusion(("x", "y"), ["y - x**3", "-x*exp(-y**2)"], np.eye(2))
    x, y = states = np.random.default_rng(2).normal(size=(2, 7))
    np.testing.assert_allclose(system.drift(states), [y - x**3, -x * np.exp(-(y**2))], rtol=1e-13)


def test_mobility_is_half_the_noise_matrix_times_its_transpose():
    assert Diffusion(("x", "y"), ["-x", "-y"], np.diag([1.0, 2.0])).mobility.tolist() == [0.5, 2.0]
    s = np.array([[1.0, 0.0], [0.5, 2.0]])
    np.testing.assert_allclose(
        Diffusion(("x", "y"), ["-x", "-y"], s).mobility, [[0.5, 0.25], [0.25, 2.125]], rtol=1e-15
    )
    # a rotation of the noise is the same noise
    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(Diffusion(("x", "y"), ["-x", "-y"], turned).mobility.sum(), 1.0)


def test_noise_of_one_step_has_covariance_twice_mobility_times_time():
    s, dt, batch = np.array([[1.0, 0.0], [0.9, 0.4]]), 0.01, 40000
    for noise in (s, np.diag([0.5, 1.5])):
        system = Diffusion(("x", "y"), ["0*x", "0*y"], noise)
        for scheme in ("heun", "euler_maruyama"):
            states = system.stepper(dt, scheme).advance(np.zeros((2, batch)), Noise(31, 1, 0), 0, 1)
            exact = dt * noise @ noise.T
            error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / batch)
            assert np.abs((states @ states.T / batch - exact) / error).max() < 3


def test_ornstein_uhlenbeck_covariance_with_a_full_noise_matrix():
    """Stationary covariance solves A C + C A^T = s s^T, covariance at lag t is exp(-A t) C; A is not normal."""
    A, s = np.array([[1.0, -0.8], [0.3, 0.7]]), np.array([[0.9, 0.2], [0.6, 0.5]])
    batch = 40000
    system = Diffusion(("x", "y"), ["-x + 0.8*y", "-0.3*x - 0.7*y"], s)
    stepper, noise = system.stepper(0.5), Noise(32, 1, 0)
    first = stepper.advance(np.zeros((2, batch)), noise, 0, 24)
    second = stepper.advance(first, noise, 24, 2)
    exact = solve_continuous_lyapunov(A, s @ s.T)
    variance = np.outer(np.diag(exact), np.diag(exact))
    for outcome, expected in ((first @ first.T, exact), (second @ first.T, expm(-A) @ exact)):
        error = np.sqrt((variance + expected**2) / batch)
        assert np.abs((outcome / batch - expected) / error).max() < 3


@pytest.mark.parametrize(("temperature", "percent"), [(1.0, 38.07), (0.25, 82.288)])
def test_four_well_mass_near_the_wells(temperature, percent):
    """Share of exp(-V/T) within 0.4 of a well (method.md section 5), by quadrature and by simulation.

    All wells are started alike, so that the slow rates, which belong to odd modes, do not matter.
    """
    axis = np.linspace(-3, 3, 2401)
    x, y = np.meshgrid(axis, axis)
    weight = np.exp(-((x**2 - 1) ** 2 + (y**2 - 1) ** 2) / temperature)
    near = np.hypot(np.abs(x) - 1, np.abs(y) - 1) < 0.4
    exact = weight[near].sum() / weight.sum()
    assert abs(100 * exact - percent) < 0.02

    batch, records = 2000, 40
    stepper, noise = langevin(("x", "y"), FOUR_WELLS, temperature).stepper(0.01), Noise(33, 1, 0)
    signs = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1]])
    states = stepper.advance(np.tile(signs, batch // 4), noise, 0, 300)
    inside = np.zeros(batch)
    for record in range(records):
        states = stepper.advance(states, noise, 300 + 25 * record, 25)
        inside += np.hypot(*(np.abs(states) - 1)) < 0.4
    error = (inside / records).std(ddof=1) / np.sqrt(batch)
    assert error < 0.01 * exact
    assert abs(inside.mean() / records - exact) < 3 * error


def test_wrong_scheme_is_refused_with_the_known_ones():
    system = Diffusion(("x",), ["-x"], np.eye(1))
    with pytest.raises(SpdeError, match=r"exponential_heun.*auto, heun, euler_maruyama"):
        system.stepper(0.1, "exponential_heun")


def test_auto_is_heun_and_not_euler_maruyama():
    system, start = langevin(("x", "y"), FOUR_WELLS, 0.5), np.full((2, 3), 0.7)
    ends = {
        scheme: system.stepper(0.05, scheme).advance(start, Noise(34, 1, 0), 0, 5)
        for scheme in ("auto", "heun", "euler_maruyama")
    }
    np.testing.assert_array_equal(ends["auto"], ends["heun"])
    assert np.abs(ends["auto"] - ends["euler_maruyama"]).max() > 1e-3


def test_observables_are_functions_of_the_variables():
    system = Diffusion(("x", "y"), ["-x", "-y"], np.eye(2))
    x, y = states = np.random.default_rng(3).normal(size=(2, 5))
    for text, expected in (("x*y", x * y), ("y", y), ("x > 0", (x > 0).astype(float)), ("1", np.ones(5))):
        outcome = system.observe(Expression(text, system.variables, reductions=True), states)
        assert outcome.shape == (5,)
        np.testing.assert_allclose(outcome, expected)
    with pytest.raises(SpdeError, match="mean"):
        system.observe(Expression("mean(x)", system.variables, reductions=True), states)


def test_unknown_names_in_drift_and_potential_are_refused():
    with pytest.raises(ExpressionError, match="'z'"):
        Diffusion(("x", "y"), ["z", "-y"], np.eye(2))
    with pytest.raises(ExpressionError, match="'y'"):
        langevin(("x",), "x**2 + y**2", 1.0)
    with pytest.raises(ExpressionError):
        langevin(("x",), "max(x)", 1.0)


def circle_weak_errors(system, scheme, drift):
    """Errors for a system in one variable x with noise 1 + cos(x) / 2, on functions exp(i k x); see `weak_errors`."""
    k, x = np.arange(-12, 13), 2 * np.pi * np.arange(40) / 40
    basis = lambda s: np.exp(1j * np.outer(s[0], k))  # noqa: E731
    mobility = (1 + 0.5 * np.cos(x)) ** 2 / 2
    generated = (drift(x)[:, None] * 1j * k - mobility[:, None] * k**2) * basis(x[None])
    f = lambda s: np.cos(s[0]) + np.sin(s[0])  # noqa: E731
    start = np.array([[1.0, 2.5]])
    return weak_errors(system, scheme, basis, x[None], generated, f, start, quadrature(1, 20))


@pytest.mark.parametrize(("scheme", "order"), [("euler_maruyama", 1), ("milstein", 1), ("auto", 2)])
def test_weak_order_for_noise_that_depends_on_the_state(scheme, order):
    errors = circle_weak_errors(SCALAR, scheme, lambda x: -np.sin(x))
    np.testing.assert_allclose(observed_orders(errors), order, atol=0.15)
    assert errors[-1] < (1e-2 if order == 1 else 1e-4)


def test_stratonovich_noise_is_converted():
    """The limit of the scheme has the Ito drift b + s s' / 2."""
    system = Diffusion(("x",), ["-sin(x)"], "1 + 0.5*cos(x)", "stratonovich")
    ito = lambda x: -np.sin(x) - (1 + 0.5 * np.cos(x)) * np.sin(x) / 4  # noqa: E731
    x = np.linspace(-3, 3, 9)[None]
    np.testing.assert_allclose(system.drift(x), ito(x), atol=1e-14)
    errors = circle_weak_errors(system, "auto", ito)
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)
    plane = Diffusion(("x", "y"), ["0", "0"], [["x*y", "2"], ["y**2", "x"]], "stratonovich")
    x, y = states = np.random.default_rng(4).normal(size=(2, 5))
    # 1/2 (s_a . grad) s_a, summed over both columns of s
    np.testing.assert_allclose(plane.drift(states), [x * y**2, y**3 + 1], rtol=1e-13)


def test_weak_order_for_noises_that_do_not_commute_is_two():
    K = 7
    kx, ky = (k.ravel() for k in np.meshgrid(np.arange(-K, K + 1), np.arange(-K, K + 1), indexing="ij"))
    axis = 2 * np.pi * np.arange(2 * K + 2) / (2 * K + 2)
    x, y = points = np.array([a.ravel() for a in np.meshgrid(axis, axis, indexing="ij")])
    basis = lambda s: np.exp(1j * (np.outer(s[0], kx) + np.outer(s[1], ky)))  # noqa: E731
    s = np.array([[0.8 + 0 * x, 0.5 * np.sin(y)], [0.9 * np.cos(x), 0.7 + 0 * x]])
    M = np.einsum("ian,jan->ijn", s, s)[..., None] / 2
    drift = (-np.sin(x) + 0.3 * np.cos(y))[:, None] * 1j * kx - np.sin(y)[:, None] * 1j * ky
    generated = (drift - M[0, 0] * kx**2 - 2 * M[0, 1] * kx * ky - M[1, 1] * ky**2) * basis(points)
    f = lambda s: np.cos(s[0]) + np.sin(s[0] + s[1]) + 0.4 * np.cos(s[1])  # noqa: E731
    start, rule = np.array([[1.0, 2.5], [0.3, -1.0]]), quadrature(2, 6, signs=1)
    errors = weak_errors(PLANE, "auto", basis, points, generated, f, start, rule)
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)
    assert errors[-1] < 1e-3


# two noises that commute without being diagonal
GEOMETRIC = Diffusion(("x", "y"), ["-x", "-y/2"], [["0.5*x", "0.3*x"], ["0.2*y", "-0.4*y"]])
# the second noise is switched on by what the first has done: its error is that of the area alone
AREA = Diffusion(("x", "y"), ["0", "0"], [["1", "0"], ["0", "sin(x)"]])


@pytest.mark.parametrize(
    ("system", "scheme", "order", "rows"),
    [
        (SCALAR, "euler_maruyama", 0.5, 1),
        (SCALAR, "milstein", 1, 1),
        (SCALAR, "platen", 1, 1),
        (GEOMETRIC, "milstein", 1, 2),
        (AREA, "euler_maruyama", 0.5, 2),
        (AREA, "platen", 0.5, 3),
    ],
)
def test_strong_order_for_noise_that_depends_on_the_state(system, scheme, order, rows):
    errors = strong_errors(system, scheme, np.ones(system.dimension), rows, 4000)
    np.testing.assert_allclose(observed_orders(errors).mean(), order, atol=0.15)


def test_which_noises_commute_and_which_schemes_that_leaves():
    assert SCALAR.commutative and GEOMETRIC.commutative
    assert Diffusion(("x", "y"), ["0", "0"], ["x**2", "exp(y)"]).commutative
    assert not AREA.commutative and not PLANE.commutative
    # a diagonal matrix does not commute where an entry depends on another variable
    assert not Diffusion(("x", "y"), ["0", "0"], ["y", "x"]).commutative
    assert SCALAR.choose_scheme()[0] == "platen"
    with pytest.raises(SpdeError, match="auto, platen, euler_maruyama for this diffusion; milstein needs commutative"):
        PLANE.stepper(0.1, "milstein")


def test_mobility_field_is_half_the_noise_times_its_transpose():
    x, y = states = np.random.default_rng(5).normal(size=(2, 6))
    s = np.array([[0.8 + 0 * x, 0.5 * np.sin(y)], [0.9 * np.cos(x), 0.7 + 0 * x]])
    exact = np.einsum("ian,jan->nij", s, s) / 2
    diagonal = Diffusion(("x", "y"), ["0", "0"], ["1 + x**2", "y"])
    assert isinstance(PLANE.mobility, MobilityField) and isinstance(diagonal.mobility, DiagonalField)
    J, slopes = np.random.default_rng(6).normal(size=(3, 2)), np.random.default_rng(7).normal(size=(6, 2))
    both = [np.diag([(1 + a**2) ** 2 / 2, b**2 / 2]) for a, b in states.T]
    for field, M in ((PLANE.mobility, exact), (diagonal.mobility, np.array(both))):
        for matrix, expected in ((None, M), (J, J @ M @ J.T), (J[:1], J[:1] @ M @ J[:1].T)):
            directions = field.seen_by(matrix, states)
            assert matrix is None or len(directions) <= len(matrix)
            found = np.einsum("kni,knj->nij", directions, directions)
            np.testing.assert_allclose(found, expected, atol=1e-14)
            np.testing.assert_allclose(field.average(matrix, states), expected.mean(axis=0), atol=1e-14)
        np.testing.assert_allclose(field.apply(states, slopes), np.einsum("nij,nj->ni", M, slopes), atol=1e-14)


def test_ornstein_uhlenbeck_is_recognised_and_stepped_by_its_transition_law():
    """Mean exp(A h) x + int exp(A s) c, covariance C - exp(A h) C exp(A h)^T with A C + C A^T = - s s^T."""
    A, c, s = np.array([[-1.0, 2.0], [-2.0, -1.0]]), np.array([0.5, -1.0]), np.array([[0.9, 0.2], [0.6, 0.5]])
    system = Diffusion(("x", "y"), ["-x + 2*y + 0.5", "-(2*x + y) - 1"], s)
    np.testing.assert_allclose(system.linear[0], A)
    np.testing.assert_allclose(system.linear[1], c)
    assert system.choose_scheme()[0] == "exact"
    C = solve_continuous_lyapunov(A, -s @ s.T)
    for h in (1e-3, 0.7, 40.0):
        phi, shift, root = transition_law(A, c, s, h)
        np.testing.assert_allclose(phi, expm(A * h), atol=1e-14)
        np.testing.assert_allclose(shift, np.linalg.solve(A, (expm(A * h) - np.eye(2)) @ c), atol=1e-13)
        np.testing.assert_allclose(root @ root.T, C - phi @ C @ phi.T, rtol=1e-11)
    x = np.random.default_rng(8).normal(size=(2, 5))
    phi, shift, root = transition_law(A, c, s, 0.7)
    xi = np.random.default_rng(9).normal(size=(2, 5))
    after = x.copy()
    system.stepper(0.7)._step(after, xi)
    np.testing.assert_allclose(after, phi @ x + shift[:, None] + root @ xi, rtol=1e-13)


def test_transition_laws_of_stiff_free_and_degenerate_linear_systems():
    A = np.diag([-1e5, -1.0])
    _, _, root = transition_law(A, np.zeros(2), np.eye(2), 1.0)
    np.testing.assert_allclose(np.diag(root) ** 2, [1 / 2e5, (1 - np.exp(-2)) / 2], rtol=1e-9)
    # Brownian motion, and its integral: covariance (h, h^2/2; h^2/2, h^3/3)
    phi, _, root = transition_law(np.array([[0, 1.0], [0, 0]]), np.zeros(2), np.array([[0.0], [1.0]]), 0.5)
    np.testing.assert_allclose(phi, [[1, 0.5], [0, 1]])
    np.testing.assert_allclose(root @ root.T, [[0.5**3 / 3, 0.125], [0.125, 0.5]], rtol=1e-12)
    assert Diffusion(("x",), ["0*x"], 1.0).choose_scheme()[0] == "exact"
    assert langevin(("x", "y"), "x**2 + x*y + y**2", 0.5).choose_scheme()[0] == "exact"
    assert Diffusion(("x",), ["-x"], "x").linear is None
    assert langevin(("x",), "x**4", 1.0).linear is None


def test_more_or_fewer_noises_than_components_have_the_law_of_their_covariance():
    for s in (np.array([[1.0], [0.5]]), np.array([[1.0, 0.3, -0.2], [0.0, 0.4, 0.8]])):
        system, batch = Diffusion(("x", "y"), ["-sin(x)", "-sin(y)"], s), 40000
        states = system.stepper(0.01).advance(np.zeros((2, batch)), Noise(36, 1, 0), 0, 1)
        exact = 0.01 * s @ s.T
        error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / batch)
        assert np.abs((states @ states.T / batch - exact) / error).max() < 3
    assert not Diffusion(("x", "y"), ["0", "0"], [[1.0], [0.5]]).elliptic
    assert not Diffusion(("x", "y"), ["0", "0"], [1.0, 0.0]).elliptic
    assert Diffusion(("x", "y"), ["0", "0"], ["x", "y"]).elliptic
    assert not Diffusion(("x", "y"), ["0", "0"], [["x", "2*x"], ["y", "2*y"]]).elliptic


def test_detailed_balance_is_found_and_its_absence_too():
    reversible = [
        langevin(("x", "y"), FOUR_WELLS, 0.5),
        Diffusion(("x",), ["-x"], "1 + 0.5*cos(x)"),
        Diffusion(("x", "y"), ["-2*x - y", "-(x + 2*y)/2"], [1.0, np.sqrt(0.5)]),
        # -M grad V + div M with M = diag(1 + x^2 y^2, 1), V = (x^2 + y^2) / 2
        Diffusion(("x", "y"), ["-(1 + x**2*y**2)*x + 2*x*y**2", "-y"], ["sqrt(2*(1 + x**2*y**2))", "sqrt(2)"]),
        # the same with M = diag(1 - x^2, 1), which some of the states that are looked at do not have
        Diffusion(("x", "y"), ["-(1 - x**2)*x - 2*x", "-y"], ["sqrt(2*(1 - x**2))", "sqrt(2)"]),
    ]
    not_reversible = [
        Diffusion(("x", "y"), ["-x - 2*y", "2*x - y"], 1.0),
        Diffusion(("x", "y"), ["-(1 + x**2*y**2)*x", "-y"], ["sqrt(2*(1 + x**2*y**2))", "sqrt(2)"]),
        UnderdampedLangevin(("q",), "q**4", 1.0, 1.0),
    ]
    assert [system.reversible for system in reversible] == [True] * 5
    assert [system.reversible for system in not_reversible] == [False] * 3
    assert Diffusion(("x", "y"), ["y", "-x"], [0.0, 1.0]).reversible is None


WELL = UnderdampedLangevin(("q",), "-cos(q)", 0.7, 1.2, 2.0)


def test_underdamped_langevin_has_the_drift_and_noise_of_its_equations():
    system = UnderdampedLangevin(("x", "y"), "x**2*y + y**4", 0.7, 1.5, [2.0, 0.5])
    assert system.variables == ("x", "y", "p_x", "p_y")
    x, y, p, r = states = np.random.default_rng(11).normal(size=(4, 5))
    expected = [p / 2, r / 0.5, -2 * x * y - 1.5 * p, -(x**2) - 4 * y**3 - 1.5 * r]
    np.testing.assert_allclose(system.drift(states), expected, rtol=1e-13)
    np.testing.assert_allclose(system.mobility, [0, 0, 1.5 * 2 * 0.7, 1.5 * 0.5 * 0.7])
    assert not system.elliptic
    assert system.choose_scheme()[0] == "baoab"
    assert UnderdampedLangevin(("q",), "q**2", 1.0, 1.0).choose_scheme()[0] == "exact"
    with pytest.raises(SpdeError, match="'p_q' is the momentum of 'q'"):
        UnderdampedLangevin(("q", "p_q"), "q**2", 1.0, 1.0)
    with pytest.raises(SpdeError, match="3 masses for 2 positions"):
        UnderdampedLangevin(("x", "y"), "x**2", 1.0, 1.0, [1.0, 1.0, 1.0])


def test_weak_order_of_baoab_is_two():
    """On exp(i k q) He_n(p / sqrt(m T)): p / m d/dq + sin(q) and friction in p, from derivatives of the basis."""
    m, T, gamma, K, N = 2.0, 0.7, 1.2, 7, 16
    deviation = np.sqrt(m * T)
    k, n = (a.ravel() for a in np.meshgrid(np.arange(-K, K + 1), np.arange(N), indexing="ij"))
    scale = np.array([1 / np.sqrt(np.prod(np.arange(1.0, i + 1))) for i in range(N)])
    hermite = lambda p: hermite_e.hermevander(p / deviation, N - 1) * scale  # noqa: E731
    basis = lambda s: np.exp(1j * np.outer(s[0], k)) * hermite(s[1])[:, n]  # noqa: E731
    axis = 2 * np.pi * np.arange(2 * K + 2) / (2 * K + 2)
    momenta = deviation * hermite_e.hermegauss(N)[0]
    q, p = points = np.array([a.ravel() for a in np.meshgrid(axis, momenta, indexing="ij")])
    below = np.exp(1j * np.outer(q, k)) * np.where(n > 0, hermite(p)[:, np.maximum(n - 1, 0)], 0)
    # d He_n / dp = sqrt(n) He_{n-1} / deviation; the friction and noise together are -gamma n
    generated = (p[:, None] / m * 1j * k - gamma * n) * basis(points)
    generated -= np.sin(q)[:, None] * np.sqrt(n) / deviation * below
    f = lambda s: np.cos(s[0]) + np.sin(s[0]) * s[1] / deviation  # noqa: E731
    start = np.array([[0.5, 2.0], [1.0, -0.5]])
    errors = weak_errors(WELL, "baoab", basis, points, generated, f, start, quadrature(1, 10))
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)
    assert errors[-1] < 1e-3


def test_strong_order_of_baoab_is_one():
    def coarsen(first, second, h):
        """Normals of the momenta's Ornstein-Uhlenbeck step over 2 h."""
        damping = np.exp(-WELL.friction * h)
        return (damping * first + second) / np.sqrt(1 + damping**2)

    errors = strong_errors(WELL, "baoab", [1.0, 0.5], 1, 4000, coarsen=coarsen)
    np.testing.assert_allclose(observed_orders(errors).mean(), 1, atol=0.15)


def test_baoab_has_the_exact_law_of_positions_in_a_quadratic_potential():
    """Stationary covariance of its linear map: variance of q is T / V'' at any time step, that of p is off by h^2."""
    system = UnderdampedLangevin(("q",), "1.5*q**2", 0.7, 0.8, 2.0)
    for h in (0.1, 0.8):
        step = system.stepper(h, "baoab")._step
        columns = np.eye(2)
        step(columns, np.zeros((1, 2)))
        kick = np.zeros((2, 1))
        step(kick, np.ones((1, 1)))
        covariance = solve_discrete_lyapunov(columns, kick @ kick.T)
        np.testing.assert_allclose(covariance[0, 0], 0.7 / 3.0, rtol=1e-12)
        np.testing.assert_allclose(covariance[1, 1], 2.0 * 0.7 * (1 - h**2 * 3.0 / 2.0 / 4), rtol=1e-12)


@pytest.mark.parametrize(
    ("system", "scheme"),
    [
        (SCALAR, "milstein"),
        (PLANE, "platen"),
        (GEOMETRIC, "euler_maruyama"),
        (WELL, "baoab"),
        (Diffusion(("x", "y"), ["-x - 2*y", "2*x - y"], [[1.0, 0.3], [0.0, 0.5]]), "exact"),
    ],
)
def test_a_trajectory_does_not_depend_on_its_batch(system, scheme):
    stepper, seen = system.stepper(0.05, scheme), []
    start = np.random.default_rng(12).normal(size=(system.dimension, 13))
    whole = stepper.advance(start, Noise(8, 1, 4), 3, 20, lambda states: seen.extend(states.copy()))
    part = stepper.advance(stepper.advance(start[:, 5:8], Noise(8, 1, 9), 3, 11), Noise(8, 1, 9), 14, 9)
    assert np.ascontiguousarray(whole[:, 5:8]).tobytes() == part.tobytes()
    assert len(seen) == 20 and seen[-1].tobytes() == whole.tobytes()


def test_a_trajectory_that_leaves_the_finite_numbers_is_named():
    stepper = SCALAR.stepper(0.1, "milstein")
    with pytest.raises(BlowUpError, match=r"trajectory 12 .* after step 21, at time 2.1: the time step 0\.1"):
        stepper.advance(np.array([[0.0, 0.01, np.inf, 0.0]]), Noise(1, 1, 10), 20, 10)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ([1.0, 2.0, 3.0], "3 entries for 2 variables"),
        ([[1.0, 2.0], [3.0]], "rows of different length"),
        ([[1.0], 2.0], "rows of different length"),
        ("z", "'z'"),
        ([["x", "max(y)"], ["0", "1"]], "max"),
    ],
)
def test_noise_that_does_not_fit_is_refused(noise, message):
    with pytest.raises(SpdeError, match=message):
        Diffusion(("x", "y"), ["-x", "-y"], noise)


def test_drift_and_interpretation_that_do_not_fit_are_refused():
    with pytest.raises(SpdeError, match="1 entries of the drift for 2 variables"):
        Diffusion(("x", "y"), ["-x"], 1.0)
    with pytest.raises(SpdeError, match="'strato' is not one of ito, stratonovich"):
        Diffusion(("x",), ["-x"], 1.0, "strato")
