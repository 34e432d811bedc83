"""Fits the heads of a probe to sidecars of features. Each function runs in a Ray task.

Shapes: N images of which the first n are those of the training set, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dpt_ray.config.probe_section import ProbeConfig, PropagationConfig
from dpt_ray.core.probe.heads import Head, LinearHead, MixtureHead
from dpt_ray.core.probe.logistic import Chunks, LogisticFit, fit_logistic
from dpt_ray.core.probe.mixture import MixtureFit, fit_mixture
from dpt_ray.core.probe.neighbour_graph import nearest_neighbours, normalised_graph
from dpt_ray.core.probe.principal import Projection, principal_components
from dpt_ray.core.probe.propagation import (
    UNKNOWN,
    class_probabilities,
    propagate,
    shares_of_classes,
    with_equal_masses,
)
from dpt_ray.core.probe.propagation_temperature import own_labels_temperature
from dpt_ray.core.probe.temperature import held_out_temperature, out_of_fold_temperature
from dpt_ray.core.transfer import own_device
from dpt_ray.pipeline.execution.feature_pieces import (
    HeldFeatures,
    LabelledFeatures,
    feature_blocks,
    feature_chunks,
    with_targets,
)


@dataclass(frozen=True)
class HeadFit:
    """A fitted head.

    Attributes:
        head: the head, on the CPU.
        temperature: divides its logits.
        objective: the objective at the end.
        objectives: the objective after each pass.
        gradient: largest component of the gradient at the end; of a mixture the last relative change.
        converged: whether that reached the tolerance.
        probabilities: propagation: class probabilities of all images, float32 (N, C); None otherwise.
        unreached: propagation: number of images that no label reaches; None otherwise.
    """

    head: Head
    temperature: float
    objective: float
    objectives: list[float]
    gradient: float
    converged: bool
    probabilities: np.ndarray | None = None
    unreached: int | None = None


@dataclass(frozen=True)
class HeadData:
    """What a head is fitted to.

    Attributes:
        pieces: the features, with the labels that the head gets.
        num_classes: C.
        calibrated: number of the first images of `pieces` whose labels a temperature may be fitted to.
        keep_bytes: size of the features up to which they are kept in memory.
    """

    pieces: Sequence[LabelledFeatures]
    num_classes: int
    calibrated: int
    keep_bytes: int


@dataclass
class SharedParts:
    """What heads need of the features alone, so that fits to other labels of the same images may share it.

    Attributes:
        graph: propagation: the graph of all images, from `graph_of_features`; it is computed if None.
        projection: mixture: the projection onto principal components; it is computed, and kept here, if None.
    """

    graph: sparse.csr_array | None = None
    projection: Projection | None = None


def fit_head(data: HeadData, probe: ProbeConfig, shared: SharedParts | None = None) -> HeadFit:
    """Fit the head that the settings name.

    Args:
        data: features and labels.
        probe: the settings.
        shared: what fits to other labels of the same images computed.
    """
    shared = shared or SharedParts()
    if probe.head == "propagation":
        return _fit_propagation(data, probe, shared.graph)
    return _fit_mixture(data, probe, shared) if probe.head == "mixture" else _fit_logistic(data, probe)


def graph_of_features(features: Tensor, settings: PropagationConfig) -> sparse.csr_array:
    """Return the graph (N, N) of normalised features (N, D) in memory, which many fits may share."""
    found = nearest_neighbours(
        lambda: [features], len(features), settings.neighbours, keep_bytes=features.nbytes, device=own_device()
    )
    return normalised_graph(found, settings.sharpness)


def fit_on_features(
    features: Tensor,
    labels: np.ndarray,
    num_classes: int,
    probe: ProbeConfig,
    shared: SharedParts | None = None,
    *,
    calibrated: bool = True,
) -> HeadFit:
    """Fit a head to features in memory.

    Args:
        features: normalised features float32 (N, D).
        labels: int64 (N,), `UNKNOWN` for none.
        num_classes: C.
        probe: the settings of the head.
        shared: what fits to other labels of the same images computed.
        calibrated: fit a temperature, which takes further fits.
    """
    if probe.head == "logistic":
        known = labels != UNKNOWN
        features, labels = features[torch.from_numpy(known)], labels[known]
    piece = HeldFeatures(features, labels)
    data = HeadData([piece], num_classes, len(labels) if calibrated else 0, features.nbytes)
    return fit_head(data, probe, shared)


def _fit_logistic(data: HeadData, probe: ProbeConfig) -> HeadFit:
    chunks, num_features = feature_chunks(data.pieces, data.keep_bytes)
    rows = sum(len(piece.labels) for piece in data.pieces)
    fit = _solver(probe, num_features, data.num_classes)

    def weight(features: Tensor, labels: Tensor) -> Tensor:
        return fit(lambda: [(features, labels)], len(labels)).weight

    temperature = 1.0
    if data.calibrated:
        features, labels = (torch.cat(parts) for parts in zip(*chunks(), strict=True))
        temperature = out_of_fold_temperature(features, labels, weight)
    return _linear(fit(chunks, rows), temperature)


def _fit_propagation(data: HeadData, probe: ProbeConfig, graph: sparse.csr_array | None) -> HeadFit:
    """Propagate labels, and fit logistic regression to the result, which classifies images outside the graph."""
    settings = probe.propagation
    chunks, num_features = feature_chunks(data.pieces, data.keep_bytes)
    labels = np.concatenate([piece.labels for piece in data.pieces])
    if graph is None:
        found = nearest_neighbours(
            feature_blocks(chunks), len(labels), settings.neighbours, keep_bytes=data.keep_bytes, device=own_device()
        )
        graph = normalised_graph(found, settings.sharpness)

    def scores(given: np.ndarray) -> np.ndarray:
        return with_equal_masses(propagate(graph, given, data.num_classes, settings.alpha))

    def logits(hidden: np.ndarray) -> Tensor:
        chosen = scores(_without(labels, hidden))[hidden]
        return torch.from_numpy(class_probabilities(chosen)).clamp_min(1e-12).log()

    raw, shares = scores(labels), shares_of_classes(labels, data.num_classes, equal=settings.class_shares == "equal")
    if _can_be_hidden(labels[: data.calibrated]):
        offset = torch.from_numpy(shares).clamp_min(1e-12).log()
        temperature = _held_out_temperature(labels, data.calibrated, logits, offset)
    else:
        temperature = own_labels_temperature(raw, labels, scores, shares)
    probabilities = class_probabilities(raw, temperature, shares)
    unreached = int((raw.max(1) <= 0).sum())
    fitted = _solver(probe, num_features, data.num_classes)(with_targets(chunks, probabilities), len(labels))
    # The targets are calibrated, so that the student's probabilities need no temperature.
    return replace(_linear(fitted, 1.0), probabilities=probabilities, unreached=unreached)


def _fit_mixture(data: HeadData, probe: ProbeConfig, shared: SharedParts) -> HeadFit:
    settings, device = probe.mixture, own_device()
    chunks, num_features = feature_chunks(data.pieces, data.keep_bytes)
    labels = torch.from_numpy(np.concatenate([piece.labels for piece in data.pieces])).long()
    if shared.projection is None:
        dimensions = min(settings.dimensions, num_features, len(labels) - 1)
        shared.projection = principal_components(feature_blocks(chunks)(), dimensions, device)
    projection = shared.projection
    points = torch.cat([projection(features.to(device)) for features, _ in chunks()])

    def fit(given: Tensor) -> MixtureFit:
        return fit_mixture(
            points,
            given.to(device),
            data.num_classes,
            components=min(settings.components * data.num_classes, len(points)),
            shared=settings.covariance == "shared",
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
        )

    def logits(hidden: np.ndarray) -> Tensor:
        mixture = fit(torch.from_numpy(_without(labels.numpy(), hidden))).mixture
        joint = mixture.log_joint(points[torch.from_numpy(hidden).to(device)].double())
        return (joint.softmax(1) @ mixture.classes).clamp_min(1e-30).log().cpu()

    temperature = _held_out_temperature(labels.numpy(), data.calibrated, logits)
    fitted = fit(labels)
    return HeadFit(
        MixtureHead.fitted(projection, fitted.mixture).cpu(),
        temperature,
        fitted.objectives[-1],
        fitted.objectives,
        fitted.change,
        fitted.converged,
    )


def _can_be_hidden(labels: np.ndarray) -> bool:
    """Whether every labelled class has a label to hide and another that stays."""
    counts = np.bincount(labels[labels != UNKNOWN])
    return bool(len(counts)) and int(counts[counts > 0].min()) >= 2


def _held_out_temperature(
    labels: np.ndarray, calibrated: int, logits: Callable[[np.ndarray], Tensor], offset: Tensor | None = None
) -> float:
    """Return the temperature of a head that uses all images.

    Args:
        labels: int64 (N,), `UNKNOWN` for none.
        calibrated: number of the first images whose labels may be hidden.
        logits: maps numbers of labelled images to their logits without their labels.
        offset: added to logits after the division, (C,).
    """
    known = np.flatnonzero(labels[:calibrated] != UNKNOWN)
    if not len(known):
        return 1.0
    given = torch.from_numpy(labels[known]).long()
    return held_out_temperature(given, lambda fold: logits(known[fold.numpy()]), offset=offset)


def _without(labels: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    rest = labels.copy()
    rest[hidden] = UNKNOWN
    return rest


def _solver(probe: ProbeConfig, num_features: int, num_classes: int) -> Callable[[Chunks, int], LogisticFit]:
    """Return what fits logistic regression to the data and their number of rows."""

    def fit(chunks: Chunks, rows: int) -> LogisticFit:
        return fit_logistic(
            chunks,
            num_features,
            num_classes,
            l2=probe.regularisation / rows,
            tolerance=probe.tolerance,
            max_evaluations=probe.max_evaluations,
            device=own_device(),
        )

    return fit


def _linear(fitted: LogisticFit, temperature: float) -> HeadFit:
    head = LinearHead(fitted.weight.shape[1], fitted.weight.shape[0])
    head.load_state_dict({"weight": fitted.weight.float()})
    return HeadFit(head, temperature, fitted.objective, fitted.objectives, fitted.gradient, fitted.converged)
