"""Equations for the tests, on one interval or a box."""

from __future__ import annotations

from spde import catalogue
from spde.domain import Domain, Interval
from spde.equations import Field, SemilinearEquation


def on(domain: Domain | Interval) -> Domain:
    """The domain, an interval as a domain of one axis."""
    return Domain((domain,)) if isinstance(domain, Interval) else domain


def custom(domain, nu, reaction, amplitude, parameters=None, covariance=None, **terms) -> SemilinearEquation:
    """du = (nu Lap u + reaction) dt + amplitude dW, and further terms or options."""
    options = {name: terms.pop(name) for name in ("interpretation", "renormalize") if name in terms}
    field = Field("u", nu, reaction=reaction, amplitude=amplitude, **terms)
    return SemilinearEquation(on(domain), [field], covariance, parameters, **options)


def named(name, domain, amplitude, parameters=None, covariance=None, **options) -> SemilinearEquation:
    """An equation of the catalogue."""
    return catalogue.named_equation(name, on(domain), amplitude, parameters, covariance, **options)
