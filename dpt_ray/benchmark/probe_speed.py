"""Benchmark of the linear probe's fit: time to an objective, ours and scikit-learn's logistic regression."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from dpt_ray.core.probe.logistic import fit_logistic, objective_and_gradient
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.data.storage.json_records import Record
from dpt_ray.tables import markdown_table

TOLERANCES = (1e-4, 1e-6)
"""Tolerances of scikit-learn: its default, and the default of a `linear_probe`."""
OUR_TOLERANCE = 1e-7
"""Our tolerance. It is below the default, so that our curve reaches every objective that is compared."""
SAME = 1e-4
"""Relative difference of objectives at which ours counts as reached."""
CHUNK = 4096

Pieces = list[tuple[torch.Tensor, torch.Tensor]]
"""Chunks of the data: features (n, D) and labels (n,)."""


@dataclass(frozen=True)
class _Fit:
    """A fit of scikit-learn: its time in s, its iterations, and the objective that it reached."""

    seconds: float
    iterations: int
    objective: float


@dataclass(frozen=True)
class Comparison(Record):
    """Time to the objective that scikit-learn reaches with one tolerance.

    Attributes:
        tolerance: tolerance of scikit-learn.
        objective: the objective that it reaches.
        iterations: its iterations.
        seconds: its median time, s.
        our_passes: our passes over the data to that objective; None if ours does not reach it.
        our_seconds: our median time to that objective, s; None if one of our fits does not reach it.
        ratio: `seconds` over `our_seconds`, None without the latter.
    """

    tolerance: float
    objective: float
    iterations: int
    seconds: float
    our_passes: int | None
    our_seconds: float | None
    ratio: float | None


@dataclass(frozen=True)
class ProbeFigures(Record):
    """Results of the benchmark.

    Attributes:
        rows, features, classes, decay, rounds: arguments of `measure_probe`.
        threads: threads of PyTorch.
        machine_cpus: CPUs of the machine.
        device: device of our matrix products.
        our_curve: (seconds, objective) after each of our passes, in the first round.
        comparisons: one for each tolerance of scikit-learn.
    """

    rows: int
    features: int
    classes: int
    decay: float
    rounds: int
    threads: int
    machine_cpus: int | None
    device: str
    our_curve: list[tuple[float, float]]
    comparisons: list[Comparison]


def measure_probe(
    *, rows: int, features: int, classes: int, decay: float, rounds: int, device: str, say: Callable[[str], None]
) -> ProbeFigures:
    """Fit a synthetic problem with both solvers, in turns.

    Args:
        rows: N.
        features: D.
        classes: C.
        decay: exponent a of the spectrum k^-a of the features' covariance. For features of trained networks it is about
            1 (Agrawal et al. 2022, alpha-ReQ), and larger if few directions dominate.
        rounds: number of fits of each solver; medians of their times are reported.
        device: device of our matrix products; scikit-learn computes on the CPU. The data lie in the CPU's memory.
        say: called with each result, as a line of text, when it is known.
    """
    x, y = make_problem(rows, features, classes, decay)
    l2 = 0.0025 / rows
    pieces = list(zip(x.split(CHUNK), y.split(CHUNK), strict=True))
    own_runs: list[list[tuple[float, float]]] = []
    their_runs: dict[float, list[_Fit]] = {tolerance: [] for tolerance in TOLERANCES}
    warm = rows // 10  # rows of the warm-up, which may be shorter than a fit
    _our_curve([(x[:warm], y[:warm])], features, classes, l2, device)
    _their_fit(x[:warm].numpy(), y[:warm].numpy(), l2, TOLERANCES[0], pieces)
    for number in range(1, rounds + 1):
        own_runs.append(curve := _our_curve(pieces, features, classes, l2, device))
        say(f"round {number}: ours: {curve[-1][0]:.1f} s, {len(curve)} passes, objective {curve[-1][1]:.6f}")
        for tolerance in TOLERANCES:
            fit = _their_fit(x.numpy(), y.numpy(), l2, tolerance, pieces)
            their_runs[tolerance].append(fit)
            result = f"{fit.seconds:.1f} s, {fit.iterations} iterations, objective {fit.objective:.6f}"
            say(f"round {number}: scikit-learn, tol {tolerance:g}: {result}")
    return ProbeFigures(
        rows=rows, features=features, classes=classes, decay=decay, rounds=rounds,
        threads=torch.get_num_threads(), machine_cpus=os.cpu_count(),
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        our_curve=own_runs[0],
        comparisons=[_compare(tolerance, fits, own_runs) for tolerance, fits in their_runs.items()],
    )  # fmt: skip


def _compare(tolerance: float, fits: list[_Fit], own_runs: list[list[tuple[float, float]]]) -> Comparison:
    target = fits[0].objective * (1 + SAME)
    ours = [next((at for at, value in curve if value <= target), None) for curve in own_runs]
    seconds = float(np.median([fit.seconds for fit in fits]))
    own_seconds = None if None in ours else float(np.median(np.array(ours, float)))
    return Comparison(
        tolerance=tolerance,
        objective=fits[0].objective,
        iterations=fits[0].iterations,
        seconds=seconds,
        our_passes=next((n for n, (_, value) in enumerate(own_runs[0], start=1) if value <= target), None),
        our_seconds=own_seconds,
        ratio=seconds / own_seconds if own_seconds else None,
    )


def make_problem(rows: int, features: int, classes: int, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalised features, float32 (N, D), and labels (N,); the spectrum of the covariance is k^-decay."""
    random = torch.Generator().manual_seed(0)
    scales = torch.arange(1, features + 1) ** (-decay / 2)
    basis, _ = torch.linalg.qr(torch.randn(features, features, generator=random))
    centres = torch.randn(classes, features, generator=random)
    y = torch.randint(classes, (rows,), generator=random)
    x = (centres[y] + 2 * torch.randn(rows, features, generator=random)) * scales
    return normalise_rows(x @ basis), y


def _our_curve(pieces: Pieces, features: int, classes: int, l2: float, device: str) -> list[tuple[float, float]]:
    curve: list[tuple[float, float]] = []
    began = time.perf_counter()
    fit_logistic(
        lambda: pieces, features, classes, l2=l2, tolerance=OUR_TOLERANCE, device=device,
        on_evaluation=lambda fit: curve.append((time.perf_counter() - began, fit.objectives[-1])),
    )  # fmt: skip
    return curve


def _their_fit(x: np.ndarray, y: np.ndarray, l2: float, tolerance: float, pieces: Pieces) -> _Fit:
    model = LogisticRegression(C=1 / (l2 * len(y)), fit_intercept=False, tol=tolerance, max_iter=5000)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    seconds = time.perf_counter() - began
    objective, _ = objective_and_gradient(lambda: pieces, torch.from_numpy(model.coef_).double(), l2)
    return _Fit(seconds, int(model.n_iter_[0]), objective)


def probe_table(figures: ProbeFigures) -> str:
    """Return the results of `measure_probe` as Markdown."""
    rows = [
        (
            f"tol={c.tolerance:g}", f"{c.objective:.6f}", f"{c.iterations}", f"{c.seconds:.1f} s",
            str(c.our_passes), "not reached" if c.our_seconds is None else f"{c.our_seconds:.1f} s",
            "" if c.ratio is None else f"{c.ratio:.1f}",
        )
        for c in figures.comparisons
    ]  # fmt: skip
    head = (
        "scikit-learn",
        "its objective",
        "its iterations",
        "its time",
        "our passes to it",
        "our time to it",
        "ratio",
    )
    about = (
        f"{figures.rows:,} rows of {figures.features} features, spectrum k^-{figures.decay:g}, "
        f"{figures.classes} classes, {figures.threads} threads, ours on {figures.device}; "
        f"medians of {figures.rounds} rounds in turns after warming up."
    )
    return f"{about}\n\n{markdown_table([head, *rows])}"
