"""The generator that learns without labels: trained once, in one chunk, for all label sets."""

import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save
from torch import Tensor

from dpt_ray.benchmark.label_sets.encoded import Encoded, moments_of
from dpt_ray.benchmark.label_sets.label_sets_plan import LabelSetsPlan
from dpt_ray.benchmark.time_to_quality.cifar import Cifar
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Folder, Row, Stage
from dpt_ray.benchmark.time_to_quality.stages import draw
from dpt_ray.benchmark.time_to_quality.training import Run, go_on
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.metrics.frechet import frechet_distance
from dpt_ray.core.probe.coverage import cluster_points, coverage_points
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, check_header
from dpt_ray.data.importing.cifar10_binary import CHANNELS, SIZE
from dpt_ray.data.storage import stores
from dpt_ray.networks.generator import Generator, generator_file

PART, CLUSTERS = "without_labels.part", "clusters.safetensors"
PART_BYTES = 15 * 2**20
"""Length of a part of the generator's file: files that come back from a lease are small."""


def form_of(num_classes: int) -> Description:
    """Return the description of a generator of CIFAR-10's images with `num_classes` labels."""
    return {"kind": "generator", "image_size": SIZE, "channels": CHANNELS, "num_classes": num_classes}


def train_without_labels(
    run: Run, data: Cifar, encoded: Encoded, plan: LabelSetsPlan, stage: Stage, clock: Clock
) -> None:
    """Train on the clusters of all images, until the end or until time is over, and store generator and clusters."""
    clusters = cluster_points(coverage_points(lambda: [encoded.train]), plan.clusters, 0)
    run.folder.write(CLUSTERS, save({"clusters": clusters}))
    state = generator_training(plan.generator, image_size=SIZE, channels=CHANNELS, num_classes=plan.clusters, seed=0)
    sources = {"images": ({"image": data.images, "label": clusters}, plan.generator.batch)}

    def score(state: TrainState) -> float:
        return distance(run, plan, encoded, plan.generator, plan.clusters, state)

    go_on(run, "without labels", stage, state, plan.generator, sources, clock, score, plan.row_steps, None)
    stage.rows.append(Row(round(stage.seconds, 1), state.images_seen, score(state)))
    content = generator_file(plan.generator, form_of(plan.clusters), state)
    for number, first in enumerate(range(0, len(content), PART_BYTES)):
        run.folder.write(f"{PART}{number:02d}", content[first : first + PART_BYTES])
    stage.finished = True


def read_clusters(folder: Folder) -> np.ndarray:
    """Return the cluster of each training image, int64 (N,).

    Raises:
        UserError: the training without labels has not run.
    """
    content = stores.read_bytes(folder.require(CLUSTERS))
    check_header(content)
    return load(content)["clusters"]


def join_generator(folder: Folder, place: Path) -> str:
    """Write the parts of the generator's file into one file below `place`; return its path.

    Raises:
        UserError: the training without labels has not run.
    """
    folder.require(f"{PART}00")
    parts = sorted(Path(folder.path).glob(f"{PART}*"))
    file = place / "without_labels.safetensors"
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    return str(file)


def distance(
    run: Run, plan: LabelSetsPlan, encoded: Encoded, config: GeneratorConfig, num_classes: int, state: TrainState
) -> float:
    """Return the Fréchet distance of drawn images in the encoder's features."""
    images = drawn(run, plan, generator_file(config, form_of(num_classes), state), num_classes, plan.scored_images)
    return frechet_distance(moments_of(encoded.features.of(images)), encoded.moments)


def drawn(run: Run, plan: LabelSetsPlan, content: bytes, num_classes: int, count: int) -> Tensor:
    """Draw images by a generator's file, uint8 (count, 3, 32, 32); image n has the label n modulo the labels."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "generator.safetensors"
        file.write_bytes(content)
        return draw(Generator(str(file), run.device), plan.sampling, count, plan.drawn_together, num_classes)
