"""Pictures of a study's particles: clouds, laws of spatial means and correlations, fields, digits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from matplotlib.axes import Axes

from kswgd_hpc import digits, storage, systems
from kswgd_hpc.comparison import Row
from kswgd_hpc.metrics import subsample
from kswgd_hpc.report import canvas
from kswgd_hpc.report.methods import COLOURS, NAMES
from kswgd_hpc.report.numbers import number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.studies import StudyPlan, StudyRun, results_of
from spde.draws import chain_law, independent_draws
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.manifolds import ManifoldDiffusion

_CLOUD = 1024
_FIELDS = 8
_BINS = 20


def sections(ready: StudyPlan, rows: list[Row]) -> list[Section]:
    """What can be shown of the particles of the first seed of each case."""
    first = [run for run in ready.runs if run.seed == ready.study.seed_list[0]]
    if ready.study.data == "digits":
        return [_digits(ready, first[0])]
    system = systems.build(first[0].config)
    if isinstance(system, SemilinearEquation):
        if len(system.names) > 1:
            return []
        return [_field_laws(ready, first)] if system.domain.dimensions == 1 else [_fields(ready, first)]
    if system is None:
        return []
    return [_angles(ready, first)] if isinstance(system, ManifoldDiffusion) else [_clouds(ready, first)]


def _particles(run: StudyRun, methods: list[str]) -> dict[str, np.ndarray]:
    """(N, d) particles of each method, and the start."""
    data, _ = storage.read_results(results_of(run), skip=("ensemble/snapshots",))
    found = {"initial": data["kswgd/initial"], "kswgd": data["kswgd/particles"]}
    for name in methods:
        if f"kswgd/baselines/{name}/particles" in data:
            found[name] = data[f"kswgd/baselines/{name}/particles"]
    return found


def _reference(run: StudyRun, system, count: int) -> np.ndarray:
    """(count, d) exact draws, or states of the reference file, or of the ensemble."""
    spec = run.config.kswgd.judge.reference
    if spec is not None:
        return subsample(storage.open_recording(spec.path, spec.dataset, "reference").read(), count)
    try:
        return independent_draws(system)(run.seed, 0, 0, count).T
    except SpdeError:
        return subsample(storage.read_results(results_of(run))[0]["ensemble/sample"], count)


def _label(method: str) -> str:
    return NAMES.get(method, method)


def _colour(method: str) -> str:
    return COLOURS.get(method, canvas.GREY)


def _clouds(ready: StudyPlan, runs: list[StudyRun]) -> Section:
    run = runs[-1]
    system = systems.build(run.config)
    found = _particles(run, ready.study.methods)
    found["invariant law"] = _reference(run, system, len(found["kswgd"]))
    rows, columns = canvas.grid(len(found), 4)
    figure, axes = canvas.panels(rows, columns, 2.7, sharex=True, sharey=True)
    reference = found["invariant law"]
    low, high = reference.min(axis=0), reference.max(axis=0)
    for ax, (name, states) in zip(axes, found.items()):
        some = subsample(states, _CLOUD)
        second = some[:, 1] if some.shape[1] > 1 else np.zeros(len(some))
        colour = canvas.BLACK if name == "invariant law" else _colour(name)
        ax.scatter(some[:, 0], second, s=3, color=colour, alpha=0.5, linewidths=0, rasterized=True)
        ax.set_title(_label(name))
        ax.set_xlim(low[0] - 0.2, high[0] + 0.2)
        if some.shape[1] > 1:
            ax.set_ylim(low[1] - 0.2, high[1] + 0.2)
    canvas.blank(axes[len(found) :])
    caption = f"{run.label}, seed {run.seed}: particles at the start and at the end, and exact draws."
    return Section("Particles", f"Where the particles of each method ended at {run.label}.", [Picture(figure, caption)])


def _angles(ready: StudyPlan, runs: list[StudyRun]) -> Section:
    """Densities of the angles of a manifold, with that of exact draws."""
    run = runs[-1]
    system = systems.build(run.config)
    found = _particles(run, ready.study.methods)
    exact = _reference(run, system, 2**16)
    names = system.manifold.angles
    angles = {name: system.manifold.angles_of(np.ascontiguousarray(states.T)) for name, states in found.items()}
    truth = system.manifold.angles_of(np.ascontiguousarray(exact.T))
    shown = [name for name in found if name != "initial"]
    figure, axes = canvas.panels(len(names), len(shown), 1.7, sharex=True, sharey="row")
    edges = np.linspace(-np.pi, np.pi, _BINS + 1)
    for ax, (angle, name) in zip(axes, product(names, shown)):
        ax.stairs(np.histogram(truth[angle], edges, density=True)[0], edges, fill=True, color=canvas.GREY, alpha=0.45)
        ax.stairs(np.histogram(angles[name][angle], edges, density=True)[0], edges, color=_colour(name), linewidth=1.3)
        ax.set_xticks([-np.pi, 0, np.pi], ["−π", "0", "π"])
        if angle == names[0]:
            ax.set_title(_label(name), fontsize=8)
    for row, angle in enumerate(names):
        axes[row * len(shown)].set_ylabel(f"density of {angle}")
    caption = (
        f"{run.label}, seed {run.seed}: densities of the angles of each method's particles; the grey area is the exact "
        "law, by area."
    )
    name = names[0]
    own, law = np.cos(angles["kswgd"][name]).mean(), np.cos(truth[name]).mean()
    finding = f"Mean of cos({name}) over KSWGD's particles {number(own, 3)}, {number(law, 3)} in law."
    return Section("Particles", finding, [Picture(figure, caption)])


def _field_laws(ready: StudyPlan, runs: list[StudyRun]) -> Section:
    """Law of the spatial mean and two-point correlation of each case."""
    figure, axes = canvas.panels(len(runs), 2, 2.7)
    errors = []
    for place, run in enumerate(runs):
        errors.append(_draw_field_law(axes[2 * place], axes[2 * place + 1], ready, run))
    axes[0].legend(fontsize=7)
    axes[1].legend(fontsize=7)
    caption = (
        "Left: density of the spatial mean; right: two-point correlation with the midpoint; first seed of each case. "
        "The grey area and the dashed line are exact where the transfer matrix gives them, else those of the reference."
    )
    finding = "Share of KSWGD's fields with positive mean: " + ", ".join(
        f"{number(100 * share, 3)} % at {run.label}" for share, run in zip(errors, runs)
    )
    return Section("Laws of fields", finding + ".", [Picture(figure, caption)])


def _draw_field_law(left: Axes, right: Axes, ready: StudyPlan, run: StudyRun) -> float:
    system = systems.build(run.config)
    domain, middle = system.domain, system.domain.grid_size // 2
    x = domain.axes[0].grid
    values = lambda rows: system.fields(np.ascontiguousarray(rows.T))  # noqa: E731
    found = _particles(run, ready.study.methods)
    reference = values(_reference(run, system, 4096))
    means = reference.mean(axis=0)
    edges = np.linspace(*np.quantile(means, [0.0005, 0.9995]), 41)
    try:
        law = chain_law(system)
        grid = np.linspace(edges[0], edges[-1], 300)
        left.fill_between(
            grid, law.spatial_mean.density(grid), color=canvas.GREY, alpha=0.45, label="exact", linewidth=0
        )
        correlation = law.correlation[middle]
    except SpdeError:
        height = np.histogram(means, edges, density=True)[0]
        left.stairs(height, edges, fill=True, color=canvas.GREY, alpha=0.45, label="reference")
        correlation = (reference * reference[middle]).mean(axis=1)
    right.plot(x, correlation, color=canvas.BLACK, linestyle="--", label="exact or reference", zorder=5)
    share = np.nan
    for name, rows in found.items():
        if name == "initial":
            continue
        fields = values(rows)
        if name == "kswgd":
            share = float((fields.mean(axis=0) > 0).mean())
        width = 2.0 if name == "kswgd" else 0.9
        density = np.histogram(fields.mean(axis=0), edges)[0] / (fields.shape[1] * np.diff(edges))
        left.stairs(density, edges, color=_colour(name), label=_label(name), linewidth=width)
        right.plot(x, (fields * fields[middle]).mean(axis=1), color=_colour(name), label=_label(name), linewidth=width)
    left.set(xlabel="spatial mean", ylabel="density", title=run.label)
    right.set(xlabel="x", ylabel="⟨u(x₀) u(x)⟩", title=run.label)
    left.set_ylim(0, 1.8 * np.histogram(means, edges, density=True)[0].max())
    return share


def _fields(ready: StudyPlan, runs: list[StudyRun]) -> Section:
    """Fields in the plane: some of each method and of the reference."""
    run = runs[-1]
    system = systems.build(run.config)
    found = _particles(run, [])
    found["reference"] = _reference(run, system, len(found["kswgd"]))
    shown = [name for name in ("initial", "kswgd", "reference") if name in found]
    figure, axes = canvas.panels(len(shown), _FIELDS, 1.4)
    shape = system.domain.grid_shape
    for row, name in enumerate(shown):
        chosen = subsample(found[name], _FIELDS)
        fields = system.fields(np.ascontiguousarray(chosen.T)).T
        for column, field in enumerate(fields):
            ax = axes[row * _FIELDS + column]
            ax.imshow(field.reshape(shape), cmap=canvas.DIVERGING, vmin=-1.5, vmax=1.5, origin="lower")
            canvas.image_panel(ax)
            ax.set_xticks([])
            ax.set_yticks([])
        axes[row * _FIELDS].set_ylabel(_label(name))
    caption = (
        f"{run.label}, seed {run.seed}: {_FIELDS} fields of each, evenly taken, colours from −1.5 (blue) to 1.5 (red): "
        "particles at the start, at the end, and states of an ensemble apart."
    )
    spacing = max(axis.spacing for axis in system.domain.axes)
    finding = f"Grid of {' × '.join(map(str, shape))} points, spacing {number(spacing, 3)}."
    return Section("Fields", finding, [Picture(figure, caption)])


def _digits(ready: StudyPlan, run: StudyRun) -> Section:
    training = np.load(ready.directory / digits.TRAINING)
    labels = np.load(ready.directory / digits.LABELS)
    held_out = np.load(ready.directory / digits.HELD_OUT)
    found = _particles(run, ready.study.methods)
    found["start"] = found.pop("initial")
    parts = [_digit_picture(name, rows, training) for name, rows in found.items()]
    classify, score = _classifier(training, labels)
    counts = {_label(name): np.bincount(classify(rows), minlength=10) / len(rows) for name, rows in found.items()}
    counts["held-out digits"] = np.bincount(classify(held_out), minlength=10) / len(held_out)
    cells = [(name, *(number(100 * share, 3) for share in shares)) for name, shares in counts.items()]
    caption = (
        "Classes in per cent, by a logistic classifier of the training digits "
        f"({number(100 * score, 3)} % right on them)."
    )
    parts.insert(1, Table(("method", *map(str, range(10))), cells, caption))
    distances = [(_label(n), *_nearest_summary(rows, training)) for n, rows in found.items()]
    distances.append(("held-out digits", *_nearest_summary(held_out, training)))
    parts.insert(
        2, Table(("method", "median", "share below 0.1"), distances, "Distance to the nearest training image.")
    )
    off = 0.5 * np.abs(counts[_label("kswgd")] - counts["held-out digits"]).sum()
    finding = (
        f"Class shares of KSWGD's digits differ by {number(100 * off, 3)} % in total variation from held-out ones."
    )
    return Section("Generated digits", finding, parts)


def _nearest_summary(rows: np.ndarray, training: np.ndarray) -> tuple[str, str]:
    apart = np.sqrt(_nearest(rows, training)[1])
    return number(float(np.median(apart)), 3), f"{number(100 * float((apart < 0.1).mean()), 3)} %"


def _nearest(rows: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest training image of each row, and the squared distance."""
    squares = (rows**2).sum(axis=1)[:, None] + (training**2).sum(axis=1) - 2 * rows @ training.T
    index = squares.argmin(axis=1)
    return index, np.maximum(squares[np.arange(len(rows)), index], 0.0)


def _digit_picture(name: str, rows: np.ndarray, training: np.ndarray) -> Picture:
    chosen = subsample(rows, 24)
    nearest = training[_nearest(chosen, training)[0]]
    figure, axes = canvas.panels(4, 12, 0.95)
    for place, (image, match) in enumerate(zip(chosen, nearest)):
        row, column = divmod(place, 12)
        for part, picture in enumerate((image, match)):
            ax = axes[(2 * row + part) * 12 + column]
            ax.imshow(picture.reshape(digits.SIDE, digits.SIDE), cmap="gray_r", vmin=0, vmax=1)
            canvas.image_panel(ax)
            ax.set_xticks([])
            ax.set_yticks([])
            if part:
                ax.spines[:].set_color(canvas.ORANGE)
    return Picture(figure, f"{_label(name)}: particles, and below each, framed in orange, the nearest training image.")


def _classifier(images: np.ndarray, labels: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Function from images to classes, and its share of right answers on what it was fitted to."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=2000).fit(images, labels)
    return model.predict, float(model.score(images, labels))
