"""Going on from a shorter training: one that has the same description but for `images`.

A training is a function of its description and the number of images seen, and its data order and random numbers do not
depend on its length. So a longer training passes through the final state of a shorter one, unless a schedule follows
from the length.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dpt_ray.core.self_supervised.methods import method_class
from dpt_ray.core.semi_supervised.algorithms import algorithm_class
from dpt_ray.core.training.loop import snapshot_images
from dpt_ray.distributed.checkpoints import DamagedCheckpointError, list_checkpoints
from dpt_ray.distributed.job_log import tell
from dpt_ray.distributed.kept_state import begin_from_state, find_state
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.snapshots import copy_snapshots
from dpt_ray.pipeline.artifacts.damage import find_damage
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.execution.step import StepContext


@dataclass(frozen=True)
class ShorterTraining:
    """A finished training that is as another one, but shorter.

    Attributes:
        artifact: its artifact.
        images: number of images that it has seen.
        state: name of its final state; empty if there is an obstacle.
        snapshots: numbers of images after which the other training stores its power averages, up to `images`.
        obstacle: why the other training cannot go on from it; None if it can.
    """

    artifact: Artifact
    images: int
    state: str
    snapshots: frozenset[int] = frozenset()
    obstacle: str | None = None

    @property
    def plan(self) -> str:
        """What follows for the other training, in words."""
        if self.obstacle is None:
            return f"goes on from {self.artifact.address} after {self.images:,} images"
        return f"starts from the beginning, not from {self.artifact.address}: {self.obstacle}"


def find_shorter(store: ArtifactStore, step: str, recorded: JsonObject) -> ShorterTraining | None:
    """Return the longest finished training that a training can go on from, or else the longest that it cannot.

    Every manifest of the kind is read.

    Args:
        store: the artifacts.
        step: kind of the training step.
        recorded: description of the training as its manifest will record it (`Step.recorded`).
    """
    wanted = json.loads(json.dumps(recorded))
    length = wanted["settings"].get("training", {}).get("images")
    if length is None:
        return None
    found = [_describe(artifact, wanted) for artifact in _shorter(store, step, wanted, length)]
    return max(found, key=lambda one: (one.obstacle is None, one.images), default=None)


def go_on(context: StepContext) -> None:
    """Let a training that has not begun go on from a shorter one; say so, or why it does not.

    A training that a search evaluates on its way always starts from the beginning, since its early evaluations count.

    Raises:
        UserError: files cannot be read or stored.
    """
    if context.recorded is None or context.callback is not None or list_checkpoints(context.folder):
        return
    root, step, _ = context.folder.rsplit("/", 2)
    shorter = find_shorter(ArtifactStore(root), step, context.recorded)
    if shorter is None:
        return
    plan = shorter.plan
    if shorter.obstacle is None:
        try:
            copy_snapshots(shorter.artifact.url, context.folder, shorter.snapshots)
            begin_from_state(context.folder, shorter.artifact.url, shorter.state)
        except DamagedCheckpointError as error:
            plan = f"starts from the beginning, not from {shorter.artifact.address}: {error}"
    tell(f"{context.title}: {plan}")


def _shorter(store: ArtifactStore, step: str, wanted: Any, length: int) -> Iterator[Artifact]:
    for address in store.folders(step):
        try:
            artifact = store.find(step, address)
        except StoreFailureError:
            raise
        except UserError:  # it is damaged, which concerns whoever needs it
            continue
        settings = artifact.manifest.get("settings") if artifact else None
        training = settings.get("training") if isinstance(settings, dict) else None
        if artifact is None or not isinstance(training, dict) or not isinstance(training.get("images"), int):
            continue
        as_long = {**artifact.settings, "training": {**training, "images": length}}
        is_same = as_long == wanted["settings"] and artifact.manifest.get("version") == wanted["version"]
        if is_same and training["images"] < length:
            yield artifact


def _describe(artifact: Artifact, wanted: Any) -> ShorterTraining:
    images, training = int(artifact.facts["images_seen"]), wanted["settings"]["training"]
    snapshots = _snapshots(training)
    due = frozenset(seen for seen in snapshots if seen <= images)
    state = find_state(artifact.url) or ""
    roles = [role for role, parent in wanted["parents"].items() if artifact.manifest["parents"].get(role) != parent]
    algorithm = training.get("algorithm", {}).get("name")
    obstacle = None
    if roles or artifact.manifest["parents"].keys() != wanted["parents"].keys():
        obstacle = f"it was trained with other {' and '.join(roles) or 'data'}"
    elif training["optimizer"]["schedule"] != "constant":
        obstacle = f"the learning rate of optimizer.schedule={training['optimizer']['schedule']} follows the length"
    elif "method" in training and not method_class(training["method"]).extendable:
        obstacle = f"the average of method={training['method']} follows the length"
    elif algorithm is not None and not algorithm_class(algorithm).extendable:
        obstacle = f"the loss of algorithm.name={algorithm} may follow the length"
    elif not due <= _snapshots(artifact.settings["training"]):
        obstacle = "its snapshots (ema_snapshots) are of other times"
    elif artifact.facts.get("skipped"):
        obstacle = "it left images out"
    elif damage := find_damage(artifact):
        obstacle = str(damage)
    elif not state:
        obstacle = "it kept no state (cluster.keep_training_state)"
    return ShorterTraining(artifact, images, state, due, obstacle)


def _snapshots(training: Any) -> set[int]:
    """Return after how many images a training stores its power averages, by its recorded settings."""
    number = training.get("ema_snapshots", 0)
    return snapshot_images(training["images"], training["batch"], number) if number else set()
