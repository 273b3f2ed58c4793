"""The configuration file: schema, defaults (each in one place, here), checks and error messages."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kswgd_hpc.errors import ConfigurationError
from spde.catalogue import CATALOGUE
from spde.diffusions import momenta_of
from spde.expressions import RESERVED
from spde.schemes import SCHEMES

_MAX_NODES = 100_000
DIFFUSION_SCHEMES = ("heun", "platen", "baoab", "exact")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Numbers = Finite | Annotated[list[Finite], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=2**31)]
Formula = Text | Finite
Amplitude = Positive | Text
Points = Annotated[int, Field(ge=1, le=2**20)]
Boundary = Literal["periodic", "neumann", "dirichlet"]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are not changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Domain(Section):
    """An interval, a rectangle or a box: lists have one entry for each axis, single values are for all axes."""

    length: Positive | Annotated[list[Positive], Field(min_length=1, max_length=3)]
    points: Points | Annotated[list[Points], Field(min_length=1, max_length=3)]
    boundary: Boundary | Annotated[list[Boundary], Field(min_length=1, max_length=3)] = "neumann"

    @model_validator(mode="after")
    def _as_many_axes(self):
        if len({len(v) for v in (self.length, self.points, self.boundary) if isinstance(v, list)}) > 1:
            raise ValueError("the lists of 'length', 'points' and 'boundary' differ in their number of axes")
        if math.prod(self.points if isinstance(self.points, list) else [self.points] * self.dimensions) > 2**27:
            raise ValueError("'points' multiply to more than 2**27")
        return self

    @property
    def dimensions(self) -> int:
        """Number of axes."""
        return max(len(v) if isinstance(v, list) else 1 for v in (self.length, self.points, self.boundary))


class Noise(Section):
    """A Q-Wiener process, times an amplitude: a number, or an expression in the field."""

    amplitude: Amplitude | Annotated[list[Amplitude], Field(min_length=1)]
    covariance: Literal["white", "power_law", "exponential", "gaussian", "matern"] = "white"
    correlation_length: Positive | None = None
    exponent: Positive | None = None
    smoothness: Positive | None = None
    conserved: bool = False
    interpretation: Literal["ito", "stratonovich"] = "ito"
    renormalization: Literal["none", "wick"] = "none"

    @model_validator(mode="after")
    def _covariance_has_its_numbers(self):
        wanted = {
            "white": (),
            "power_law": ("correlation_length", "exponent"),
            "exponential": ("correlation_length",),
            "gaussian": ("correlation_length",),
            "matern": ("correlation_length", "smoothness"),
        }[self.covariance]
        for key in ("correlation_length", "exponent", "smoothness"):
            given = getattr(self, key) is not None
            if given and key not in wanted:
                raise ValueError(f"{key!r} has no meaning for covariance: {self.covariance}")
            if not given and key in wanted and key != "smoothness":
                raise ValueError(f"covariance: {self.covariance} needs the key {key!r}")
        return self


_CUSTOM_TERMS = ("diffusivity", "hyperdiffusivity", "advection", "reaction", "flux", "potential")


class SpdeSystem(Section):
    """du = (diffusivity Lap u - hyperdiffusivity Lap^2 u - advection . grad u + reaction + div flux) dt + noise."""

    kind: Literal["spde"]
    equation: Literal[(*CATALOGUE, "custom")]
    parameters: dict[Name, Finite] = {}
    domain: Domain
    discretization: Literal["finite_difference", "spectral"] = "finite_difference"
    noise: Noise
    diffusivity: Formula | None = None
    hyperdiffusivity: Formula | None = None
    advection: Formula | Annotated[list[Formula], Field(min_length=1, max_length=3)] | None = None
    reaction: Formula | None = None
    flux: Formula | Annotated[list[Formula], Field(min_length=1, max_length=3)] | None = None
    potential: Formula | None = None

    @model_validator(mode="after")
    def _custom_names_its_parts(self):
        given = [key for key in _CUSTOM_TERMS if getattr(self, key) is not None]
        if self.equation == "custom":
            if not {"diffusivity", "hyperdiffusivity"} & set(given):
                raise ValueError("equation: custom needs the key 'diffusivity' (or 'hyperdiffusivity')")
            if not {"reaction", "flux", "advection", "potential"} & set(given):
                raise ValueError("equation: custom needs the key 'reaction' (or 'flux', 'advection', 'potential')")
        elif given:
            raise ValueError(f"{given[0]!r} belongs to equation: custom; {self.equation} takes 'parameters'")
        for key in ("advection", "flux"):
            value = getattr(self, key)
            count = len(value) if isinstance(value, list) else 1
            if value is not None and count != self.domain.dimensions:
                raise ValueError(f"{key!r} has {count} entries for {self.domain.dimensions} axes of the domain")
        reserved = sorted({"u", "v", "x", "y", "z", *RESERVED} & set(self.parameters))
        if reserved:
            raise ValueError(f"parameter {reserved[0]!r} has the name of something else")
        return self


class CircleManifold(Section):
    """x^2 + y^2 = radius^2."""

    kind: Literal["circle"]
    radius: Positive = 1.0


class SphereManifold(Section):
    """x^2 + y^2 + z^2 = radius^2."""

    kind: Literal["sphere"]
    radius: Positive = 1.0


class TorusManifold(Section):
    """Torus of revolution: a tube of radius r around a circle of radius R."""

    kind: Literal["torus"]
    R: Positive
    r: Positive

    @model_validator(mode="after")
    def _has_a_hole(self):
        if self.r >= self.R:
            raise ValueError(f"a torus of revolution needs R > r, got R = {self.R:g}, r = {self.r:g}")
        return self


class DiffusionSystem(Section):
    """Langevin in a potential, with inertia where it has friction; a general drift and noise; or a manifold."""

    kind: Literal["diffusion"]
    variables: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    potential: Text | None = None
    temperature: Positive | None = None
    friction: Positive | None = None
    mass: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    drift: list[Formula] | None = None
    diffusion: Formula | list[Formula] | list[list[Formula]] | None = None
    interpretation: Literal["ito", "stratonovich"] | None = None
    manifold: Annotated[CircleManifold | SphereManifold | TorusManifold, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _parts_fit(self):
        given = {key for key in type(self).model_fields if getattr(self, key) is not None} - {"kind"}
        if self.manifold is not None:
            self._check_manifold(given - {"manifold"})
            return self
        if self.variables is None:
            raise ValueError("'variables' is required, or 'manifold'")
        names = self.components
        if len(set(names)) < len(names):
            raise ValueError("'variables' repeats a name, or takes that of a momentum")
        reserved = sorted(set(RESERVED) & set(names))
        if reserved:
            raise ValueError(f"variable {reserved[0]!r} has the name of a function or constant")
        if (self.potential is None) == (self.drift is None):
            raise ValueError("give either 'potential' with 'temperature', or 'drift' with 'diffusion', or 'manifold'")
        self._check_keys(given)
        if self.drift is not None and len(self.drift) != len(names):
            raise ValueError(f"'drift' has {len(self.drift)} entries for {len(names)} variables")
        if isinstance(self.mass, list) and len(self.mass) not in (1, len(self.variables)):
            raise ValueError(f"'mass' has {len(self.mass)} entries for {len(self.variables)} variables")
        return self

    @staticmethod
    def _check_manifold(given: set[str]) -> None:
        wrong = sorted(given - {"potential", "temperature"})
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} has no place beside 'manifold', which takes 'potential' with 'temperature' at most"
            )
        if len(given) == 1:
            raise ValueError("on a manifold give both 'potential' and 'temperature', or neither: Brownian motion")

    @staticmethod
    def _check_keys(given: set[str]) -> None:
        """That the keys beside `potential` or `drift` are those that belong to it."""
        if "potential" in given:
            if "temperature" not in given or "diffusion" in given or "interpretation" in given:
                raise ValueError("'potential' needs 'temperature' and no 'diffusion' or 'interpretation'")
            if "mass" in given and "friction" not in given:
                raise ValueError("'mass' needs 'friction': without inertia a mass has no meaning")
            return
        if "diffusion" not in given or "temperature" in given:
            raise ValueError("'drift' needs 'diffusion' and no 'temperature'")
        if {"friction", "mass"} & given:
            raise ValueError("'friction' and 'mass' belong to 'potential': a 'drift' says all of the dynamics")

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components of a state: positions and momenta, or coordinates around a manifold."""
        if self.manifold is not None:
            return ("x", "y") if self.manifold.kind == "circle" else ("x", "y", "z")
        names = tuple(self.variables)
        return names if self.friction is None else (*names, *momenta_of(names))


class DataSystem(Section):
    """The user's own arrays: (samples, d), or (trajectories, times, d) with sampling_interval."""

    kind: Literal["data"]
    path: Text
    dataset: Text | None = None
    sampling_interval: Positive | None = None
    mobility: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None


class Constant(Section):
    """The same state everywhere."""

    kind: Literal["constant"]
    value: Numbers


class Gaussian(Section):
    """Independent normals, per component."""

    kind: Literal["gaussian"]
    mean: Numbers = 0.0
    deviation: NonNegative | Annotated[list[NonNegative], Field(min_length=1)] = 1.0


class Uniform(Section):
    """Independent uniforms, per component."""

    kind: Literal["uniform"]
    low: Numbers
    high: Numbers


class ExpressionInitial(Section):
    """A field given as an expression in the coordinates; a list has one for each field."""

    kind: Literal["expression"]
    value: Formula | Annotated[list[Formula], Field(min_length=1)]


class FileInitial(Section):
    """States from a file, (d,) or (n, d); used in turn."""

    kind: Literal["file"]
    path: Text
    dataset: Text | None = None


Initial = Annotated[Constant | Gaussian | Uniform | ExpressionInitial | FileInitial, Field(discriminator="kind")]


class Ensemble(Section):
    """How trajectories are made, or, for data, at which lag they are read."""

    trajectories: Count | None = None
    initial: Initial | None = None
    scheme: Literal[("auto", *SCHEMES, *DIFFUSION_SCHEMES)] = "auto"
    time_step: Positive | None = None
    burn_in: NonNegative = 0.0
    duration: Positive | None = None
    lag_time: Positive | None = None
    stride: Positive | None = None
    store: bool = False


class IdentityCoordinates(Section):
    """The dictionary sees the whole state."""

    kind: Literal["identity"]


class ModeCoordinates(Section):
    """The dictionary sees the first Laplacian coefficients."""

    kind: Literal["modes"]
    count: Count


class PodCoordinates(Section):
    """The dictionary sees the directions in which the ensemble varies most."""

    kind: Literal["pod"]
    count: Count


class ExpressionCoordinates(Section):
    """The dictionary sees functions of the state, or of other coordinates."""

    kind: Literal["expressions"]
    functions: Annotated[list[Formula], Field(min_length=1, max_length=64)]
    of: Annotated[IdentityCoordinates | ModeCoordinates | PodCoordinates, Field(discriminator="kind")] = (
        IdentityCoordinates(kind="identity")
    )


class DelayCoordinates(Section):
    """The dictionary sees coordinates at `count` times, `spacing` apart."""

    kind: Literal["delay"]
    count: Annotated[int, Field(ge=2, le=1000)]
    spacing: Positive
    of: Annotated[
        IdentityCoordinates | ModeCoordinates | PodCoordinates | ExpressionCoordinates, Field(discriminator="kind")
    ] = IdentityCoordinates(kind="identity")


AnyCoordinates = Annotated[
    IdentityCoordinates | ModeCoordinates | PodCoordinates | ExpressionCoordinates | DelayCoordinates,
    Field(discriminator="kind"),
]

Size = Annotated[int, Field(ge=2, le=100_000)]
Bandwidth = Literal["auto", "cross_validated"] | Positive
Centres = Literal["farthest", "kmeans"]
Cells = Annotated[int, Field(ge=2, le=2**20)]
Period = Positive | Annotated[list[Positive | None], Field(min_length=1)]


class DictionarySection(Section):
    """What all dictionaries have in common."""

    @property
    def twice_differentiable(self) -> bool:
        """Whether the functions have second derivatives."""
        return True


class GaussianDictionary(DictionarySection):
    """Gaussians around states of the ensemble."""

    kind: Literal["gaussian"]
    size: Size
    centres: Centres = "farthest"
    bandwidth: Bandwidth = "auto"


class MaternDictionary(DictionarySection):
    """Matern functions around states of the ensemble."""

    kind: Literal["matern"]
    size: Size
    centres: Centres = "farthest"
    bandwidth: Bandwidth = "auto"
    smoothness: Literal["3/2", "5/2"] = "5/2"


class RationalQuadraticDictionary(DictionarySection):
    """Rational quadratic functions around states of the ensemble."""

    kind: Literal["rational_quadratic"]
    size: Size
    centres: Centres = "farthest"
    bandwidth: Bandwidth = "auto"
    exponent: Positive = 4.0


class WendlandDictionary(DictionarySection):
    """Compactly supported functions around states of the ensemble."""

    kind: Literal["wendland"]
    size: Size
    centres: Centres = "farthest"
    bandwidth: Bandwidth = "auto"
    smoothness: Literal[2, 4] = 2


class PolynomialDictionary(DictionarySection):
    """Hermite polynomials by total degree."""

    kind: Literal["polynomial"]
    degree: Annotated[int, Field(ge=1, le=20)]


class FourierDictionary(DictionarySection):
    """Cosines on the range of the data, sines and cosines on periodic coordinates."""

    kind: Literal["fourier"]
    degree: Annotated[int, Field(ge=1, le=10_000)]
    truncation: Literal["total", "tensor"] = "total"
    margin: Annotated[float, Field(ge=0, le=10)] = 0.05
    period: Period | None = None


class RandomFourierDictionary(DictionarySection):
    """Waves in random directions."""

    kind: Literal["random_fourier"]
    size: Size
    bandwidth: Bandwidth = "auto"


class SplinesDictionary(DictionarySection):
    """B-splines on a regular grid."""

    kind: Literal["splines"]
    cells: Cells | Annotated[list[Cells], Field(min_length=1)]
    degree: Annotated[int, Field(ge=1, le=5)] = 3
    period: Period | None = None

    @property
    def twice_differentiable(self) -> bool:
        """Whether the functions have second derivatives."""
        return self.degree > 1


class IndicatorDictionary(DictionarySection):
    """Indicator functions of cells: around states of the ensemble (`size`), or of a regular grid (`cells`)."""

    kind: Literal["indicator"]
    size: Size | None = None
    centres: Centres = "kmeans"
    cells: Cells | Annotated[list[Cells], Field(min_length=1)] | None = None
    period: Period | None = None

    @model_validator(mode="after")
    def _one_partition(self):
        if (self.size is None) == (self.cells is None):
            raise ValueError("give either 'size', cells around centres, or 'cells', boxes of a grid")
        other = {"centres"} if self.size is None else {"period"}
        if other & self.model_fields_set:
            raise ValueError(f"'{other.pop()}' belongs to {'size' if self.size is None else 'cells'}")
        return self

    @property
    def twice_differentiable(self) -> bool:
        """Whether the functions have second derivatives."""
        return False


class ExpressionDictionary(DictionarySection):
    """The user's functions of the coordinates."""

    kind: Literal["expressions"]
    functions: Annotated[list[Formula], Field(min_length=1, max_length=1000)]


AnyDictionary = Annotated[
    GaussianDictionary
    | MaternDictionary
    | RationalQuadraticDictionary
    | WendlandDictionary
    | PolynomialDictionary
    | FourierDictionary
    | RandomFourierDictionary
    | SplinesDictionary
    | IndicatorDictionary
    | ExpressionDictionary,
    Field(discriminator="kind"),
]


class Sets(Section):
    """Two sets of states, between which committors and transition rates are computed."""

    A: Text
    B: Text


class Koopman(Section):
    """The Galerkin problem and its solution."""

    estimator: Literal["reversible", "dirichlet", "edmd", "generator", "reduced_rank"] = "reversible"
    rank: Annotated[int, Field(ge=1, le=10_000)] | None = None
    coordinates: AnyCoordinates = IdentityCoordinates(kind="identity")
    dictionary: AnyDictionary
    modes: Literal["auto"] | Annotated[int, Field(ge=2, le=10_000)] = 10
    regularization: Annotated[float, Field(gt=0, lt=0.1)] = 1e-9
    reweight: bool | Literal["pairs", "generator"] = False
    vamp: bool = False
    time_step_error: bool = True
    certify: bool = False
    lag_times: Literal["auto"] | Annotated[list[Positive], Field(min_length=1)] = "auto"
    sets: Sets | None = None
    petsc_options: dict[str, str | int | float | bool | None] = {}

    @model_validator(mode="after")
    def _keys_of_one_estimator(self):
        if self.rank is not None and self.estimator != "reduced_rank":
            raise ValueError(f"'rank' belongs to estimator: reduced_rank, not {self.estimator}")
        return self

    @property
    def lagged(self) -> bool:
        """Whether the estimator takes pairs a lag time apart."""
        return self.estimator not in ("dirichlet", "generator")


class Kswgd(Section):
    """Transport of particles to the invariant law."""

    particles: Count
    initial: Initial
    step_size: Literal["auto"] | Positive = "auto"
    steps: Count = 400
    relaxation: NonNegative = 0.0
    baselines: Annotated[list[str], Field(max_length=0)] = []


class FeynmanKac(Section):
    """One prediction E_x[f(X_t) exp(-int c)] and its Monte Carlo reference."""

    name: Name
    observable: Formula
    killing: Formula = 0.0
    initial: Initial
    times: Annotated[list[Positive], Field(min_length=1)]
    trajectories: Annotated[int, Field(ge=2, le=2**31)] = 4096

    @field_validator("times")
    @classmethod
    def _ascending(cls, times):
        if sorted(set(times)) != times:
            raise ValueError("times must ascend")
        return times


class Validation(Section):
    """Predictions to compare with references."""

    feynman_kac: list[FeynmanKac] = []

    @field_validator("feynman_kac")
    @classmethod
    def _names_differ(cls, rows):
        names = [row.name for row in rows]
        if len(set(names)) < len(names):
            raise ValueError("two entries have the same name")
        return rows


class Compute(Section):
    """Where the dense array work is done."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["double"] = "double"


class Checkpoint(Section):
    """How often to save a restart file, and how many to keep."""

    every: Text = "10min"
    keep: Count = 2


class Output(Section):
    """Where results go, relative to the current directory."""

    directory: Text = "results"
    checkpoint: Checkpoint | None = None


class Config(Section):
    """A whole configuration; stages that are left out are not run."""

    title: str = "KSWGD run"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    system: Annotated[SpdeSystem | DiffusionSystem | DataSystem, Field(discriminator="kind")]
    ensemble: Ensemble = Ensemble()
    koopman: Koopman | None = None
    kswgd: Kswgd | None = None
    validation: Validation = Validation()
    compute: Compute = Compute()
    output: Output = Output()

    @model_validator(mode="after")
    def _combination(self):
        if self.koopman is None and (self.kswgd is not None or self.validation.feynman_kac):
            raise ValueError("'kswgd' and 'validation' need a 'koopman' section")
        (_check_data if self.system.kind == "data" else _check_simulation)(self)
        if self.koopman is not None:
            _check_reweighting(self)
            _check_analyses(self)
            _check_coordinates(self)
            _check_dictionary(self)
        return self


def _check_simulation(config: Config) -> None:
    ensemble = config.ensemble
    needed = ["trajectories", "initial", "time_step", "duration"]
    if config.koopman is not None and config.koopman.lagged:
        needed.append("lag_time")
    for key in needed:
        if getattr(ensemble, key) is None:
            raise ValueError(f"'ensemble' needs the key '{key}'")
    for key in ("burn_in", "duration", "lag_time", "stride"):
        _whole_steps(f"ensemble.{key}", getattr(ensemble, key), ensemble.time_step)
    if ensemble.lag_time is not None and ensemble.duration < ensemble.lag_time:
        raise ValueError(f"ensemble.duration {ensemble.duration:g} is shorter than lag_time {ensemble.lag_time:g}")
    if config.kswgd is not None:
        _whole_steps("kswgd.relaxation", config.kswgd.relaxation, ensemble.time_step)
    for row in config.validation.feynman_kac:
        for time in row.times:
            _whole_steps(f"validation.feynman_kac.{row.name}.times", time, ensemble.time_step)


def _check_analyses(config: Config) -> None:
    """Singular values need pairs, timescales and transitions consecutive ones."""
    koopman, ensemble = config.koopman, config.ensemble
    if koopman.vamp and ensemble.lag_time is None:
        raise ValueError("koopman.vamp needs the key ensemble.lag_time")
    key = "sets" if koopman.sets is not None else "lag_times"
    if koopman.sets is None and koopman.lag_times == "auto":
        return
    if koopman.sets is not None and koopman.coordinates.kind == "delay":
        raise ValueError("koopman.sets are sets of states, and koopman.coordinates: delay sees several at once")
    if ensemble.lag_time is None:
        raise ValueError(f"koopman.{key} needs the key ensemble.lag_time")
    stride = ensemble.lag_time if ensemble.stride is None else ensemble.stride
    if abs(ensemble.lag_time / stride - round(ensemble.lag_time / stride)) > 1e-6:
        raise ValueError(f"koopman.{key}: ensemble.lag_time has to be a multiple of ensemble.stride")
    for time in koopman.lag_times if koopman.lag_times != "auto" else []:
        _whole_steps("koopman.lag_times", time, stride, "ensemble.stride")


def _check_reweighting(config: Config) -> None:
    data, lag = config.system.kind == "data", config.ensemble.lag_time
    if not config.koopman.reweight:
        return
    by_pairs = data or config.koopman.reweight == "pairs" or not config.koopman.dictionary.twice_differentiable
    if config.koopman.reweight == "generator" and (data or config.koopman.coordinates.kind == "delay"):
        without = "data" if data else "delay coordinates"
        raise ValueError(f"koopman.reweight: generator needs a drift, which {without} do not have; use pairs")
    if lag is None and by_pairs:
        raise ValueError("koopman.reweight: pairs needs the key ensemble.lag_time")


def _check_data(config: Config) -> None:
    system, ensemble, koopman = config.system, config.ensemble, config.koopman
    if koopman is not None and koopman.certify:
        raise ValueError("koopman.certify restarts the dynamics, which data do not have")
    given = ensemble.model_fields_set - {"lag_time", "stride"}
    if given:
        raise ValueError(f"ensemble.{sorted(given)[0]} has no meaning for recorded data")
    if config.validation.feynman_kac:
        raise ValueError("'validation' needs a system that can be simulated, and data cannot")
    if config.kswgd is not None and config.kswgd.relaxation > 0:
        raise ValueError("kswgd.relaxation needs a system that can be simulated, and data cannot")
    if koopman is None:
        return
    if koopman.estimator == "generator":
        raise ValueError("estimator: generator needs the drift of a system, which data do not have; use edmd")
    if koopman.lagged:
        if system.sampling_interval is None or ensemble.lag_time is None:
            raise ValueError(
                f"estimator: {koopman.estimator} needs pairs: give system.sampling_interval and ensemble.lag_time, "
                "or use estimator: dirichlet"
            )
        for key in ("lag_time", "stride"):
            _whole_steps(f"ensemble.{key}", getattr(ensemble, key), system.sampling_interval)
        if config.kswgd is not None and system.mobility is None:
            raise ValueError("transport from recorded trajectories needs system.mobility, or estimator: dirichlet")


def _check_coordinates(config: Config) -> None:
    spec = config.koopman.coordinates
    seen = [spec]
    while hasattr(seen[-1], "of"):
        seen.append(seen[-1].of)
    if any(part.kind == "modes" for part in seen) and config.system.kind != "spde":
        raise ValueError("koopman.coordinates: modes are Laplacian modes, which only an spde has; use identity or pod")
    if spec.kind != "delay":
        return
    if config.koopman.estimator in ("reversible", "dirichlet", "generator"):
        raise ValueError(
            f"koopman.coordinates: a delay embedding is not reversible and has no generator, so estimator: "
            f"{config.koopman.estimator} cannot be used; use estimator: edmd"
        )
    if config.kswgd is not None or config.validation.feynman_kac:
        stage = "kswgd" if config.kswgd is not None else "validation.feynman_kac"
        raise ValueError(f"{stage}: starts from states without a past, which koopman.coordinates: delay needs")


def _check_dictionary(config: Config) -> None:
    """That the dictionary has the derivatives that are asked of it."""
    koopman, spec = config.koopman, config.koopman.dictionary
    if spec.kind not in ("indicator", "splines"):
        return
    transport = config.kswgd is not None
    needs = {  # stage -> whether it takes second derivatives
        "kswgd": transport and config.system.kind != "data",
        f"estimator: {koopman.estimator}": koopman.estimator == "generator",
        "reweight: generator": koopman.reweight == "generator",
    }
    gradients = {"kswgd": transport, f"estimator: {koopman.estimator}": not koopman.lagged}
    for stage, curved in needs.items():
        if spec.kind == "indicator" and (curved or gradients.get(stage, False)):
            raise ValueError(
                f"koopman.dictionary: indicator functions have no gradients, which {stage} needs; use kind: splines"
            )
        if curved and not spec.twice_differentiable:
            raise ValueError(
                f"koopman.dictionary.degree: 1 has no second derivatives, which {stage} needs; use 2 or more"
            )


def _whole_steps(path: str, value: float | None, step: float, unit: str = "the time step") -> None:
    if value is None:
        return
    steps = value / step
    if abs(steps - round(steps)) > 1e-6 * max(1.0, steps) or (value > 0 and round(steps) < 1):
        raise ValueError(f"{path} = {value:g} is not a multiple of {unit} {step:g}")


def load(path: str | Path) -> tuple[Config, str]:
    """Read and check a configuration file.

    Returns
    -------
    the configuration, and the text of the file

    Raises
    ------
    ConfigurationError : one line with the path of the key, what is wrong, and the nearest valid key
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not a text file in UTF-8") from error
    return parse(text, str(path)), text


def parse(text: str, name: str = "configuration") -> Config:
    """Check the text of a configuration; see `load`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigurationError(f"{name}: expected keys such as 'system:' and 'koopman:' at the top level")
        _check_nodes(node, name, "", {}, set())
        values = yaml.safe_load(text)
        return Config.model_validate(values)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}:" if where else ""
        reason = getattr(error, "problem", None) or "not YAML"
        raise ConfigurationError(f"{name}:{line} {_one_line(reason)}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{name}: {_explain(error)}") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"{name}: {_one_line(error)}") from error


def _check_nodes(node: yaml.Node, name: str, path: str, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """Size of the document with its aliases expanded; refuses repeated keys, cycles and alias bombs."""
    if id(node) in open_nodes:
        raise ConfigurationError(f"{name}: {path or 'top level'}: an alias that contains itself")
    if id(node) in sizes:
        return sizes[id(node)]
    open_nodes.add(id(node))
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                raise ConfigurationError(f"{name}: {path}{key.value}: the key is given twice or is not a name")
            seen.add(key.value)
            size += _check_nodes(value, name, f"{path}{key.value}.", sizes, open_nodes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check_nodes(item, name, path, sizes, open_nodes) for item in node.value)
    open_nodes.discard(id(node))
    if size > _MAX_NODES:
        raise ConfigurationError(f"{name}: {path or 'the file'} expands to more than {_MAX_NODES} values")
    sizes[id(node)] = size
    return size


def _explain(error: ValidationError) -> str:
    """The first, most telling problem as one line; how many more there are."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    kind, location = first["type"], first["loc"]
    path = _path(location)
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(known)}"
        message = f"{path}: unknown key{hint}"
    elif kind == "missing":
        message = f"{path}: this key is required"
    elif kind in ("literal_error", "union_tag_invalid"):
        expected = first["ctx"].get("expected") or first["ctx"].get("expected_tags")
        value = first["ctx"].get("tag", first["input"])
        choices = [choice.strip(" '") for choice in str(expected).replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(str(value), choices, n=1)
        others = " or a number" if choices[0] == "auto" else ""
        hint = (
            f"; did you mean '{near[0]}'?"
            if near
            else f"; choose {'one of ' * (len(choices) > 1)}{', '.join(choices)}{others}"
        )
        message = f"{path}: {_short(value)} is not available{hint}"
    elif kind == "union_tag_not_found":
        message = f"{path}: the key 'kind' is required"
    elif path.endswith("baselines"):
        message = f"{path}: no baselines are available in this version; leave the list empty"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        reason += "" if kind == "value_error" else f", got {_short(first['input'])}"
        message = f"{path}: {reason}" if path else reason
    others = len({_path(p["loc"]) for p in problems}) - 1
    return _one_line(message) + (f" (and {others} more)" if others > 0 else "")


def _path(location: tuple) -> str:
    """Keys of the file that lead to a location of pydantic's, which also names the branches of unions."""
    keys, model = [], Config
    for part in location:
        if isinstance(model, list) and not isinstance(part, int):
            model = next((m for m in model if part in _tags(m)), None)
            continue
        if isinstance(part, int) or model is None:
            if isinstance(part, int):
                keys.append(str(part))
            continue
        keys.append(part)
        model = _child(model, part)
    return ".".join(keys)


def _keys_at(location: tuple) -> list[str]:
    """Valid keys of the section at a location, following pydantic's path through the models."""
    model: Any = Config
    for part in location:
        if not isinstance(part, int):
            model = _child(model, part)
        if model is None:
            return []
    return list(model.model_fields) if isinstance(model, type) else []


def _child(model: Any, part: str) -> Any:
    """Model reached from `model` (a model, or the candidates of a union) by one part of a location."""
    if isinstance(model, list):
        return next((m for m in model if part in _tags(m)), None)
    if part not in model.model_fields:
        return None
    found = _models(model.model_fields[part].annotation)
    return (found[0] if len(found) == 1 else found) if found else None


def _models(annotation: Any) -> list[type[Section]]:
    """Section models named anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _tags(model: type[Section]) -> tuple:
    return getattr(model.model_fields["kind"].annotation, "__args__", ()) if "kind" in model.model_fields else ()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(message: Any) -> str:
    return " ".join(str(message).split())
