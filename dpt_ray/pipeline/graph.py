"""The graph of steps: makes the missing artifacts, each after its parents."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.distributed import connection
from dpt_ray.distributed.checkpoints import remove_checkpoints
from dpt_ray.distributed.cluster_nodes import shared_capacity
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.finished_units import UNITS_FOLDER
from dpt_ray.distributed.job_log import about, tell
from dpt_ray.distributed.notice import leave_preempted_trial
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import Claim
from dpt_ray.pipeline.artifacts.damage import (
    WITHDRAWN_FILE,
    find_damage,
    lacks_withdrawn_files,
    list_own_files,
    remove_files,
    withdraw,
)
from dpt_ray.pipeline.artifacts.step_facts import Facts, HasSkipped
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.tables import duration


def in_order(targets: list[Step]) -> list[Step]:
    """Return the targets and all their ancestors: parents before children, each address once."""

    steps: dict[tuple[str, str], Step] = {}
    for target in targets:
        for step in _with_ancestors(target):
            steps.setdefault((step.name, step.fingerprint), step)
    return list(steps.values())


def _with_ancestors(step: Step) -> Iterator[Step]:
    for parent in step.parents.values():
        yield from _with_ancestors(parent)
    yield step


def make_all(
    targets: list[Step],
    store: ArtifactStore,
    cluster: ClusterConfig,
    say: Callable[[str], None],
    policy: SkipPolicy = TOLERATE_NOTHING,
    callbacks: Mapping[Step, EvaluationCallback] | None = None,
    *,
    strict: bool = False,
) -> dict[Step, Artifact]:
    """Make the missing artifacts of `targets` and of all their ancestors; return every artifact.

    Ray is started only if something is missing. The policy applies to the images that an artifact leaves out, and its
    warnings are shown, whether it is made now or was made before. `callbacks` evaluate the trainings that are made now.

    Raises:
        UserError: a step cannot be made; or, with `strict`, a parent of other artifacts has warnings.
    """
    steps = in_order(targets)
    callback_of = {(step.name, step.fingerprint): callback for step, callback in (callbacks or {}).items()}
    made: dict[tuple[str, str], Artifact] = {}
    needs = [step.address for step in steps]
    for number, step in enumerate(steps, start=1):
        label = f"[{number}/{len(steps)}] {step.title}"
        with about(step=step.title, artifact=step.address):
            artifact = _find_whole(step, store, label)
            if artifact is not None:
                _reuse(step, artifact, policy, label, say, "already made")
            else:
                parents = {role: made[parent.name, parent.fingerprint] for role, parent in step.parents.items()}
                callback = callback_of.get((step.name, step.fingerprint))
                folder = store.folder(step.name, step.fingerprint)
                context = StepContext(folder, parents, cluster, label, policy, callback, recorded=step.recorded)
                artifact = _make_or_wait(step, store, context, say, needs)
        made[step.name, step.fingerprint] = artifact
        for text in artifact.warnings:
            with about(step=step.title, artifact=step.address):
                tell(f"warning: {label}: {text}", level="warning", event="result_warning")
        if strict and number < len(steps):
            refuse_warnings([artifact])
    return {step: made[step.name, step.fingerprint] for target in targets for step in _with_ancestors(target)}


def refuse_warnings(artifacts: Iterable[Artifact]) -> None:
    """Raise the first warning of artifacts as an error, for `--strict`.

    Raises:
        UserError: an artifact has a warning.
    """
    for artifact in artifacts:
        for text in artifact.warnings:
            raise UserError(f"{text} (--strict stops here)", where=artifact.url)


def _find_whole(step: Step, store: ArtifactStore, label: str) -> Artifact | None:
    """Return a step's artifact if it is finished. One whose files are not all there is withdrawn."""
    artifact = store.find(step.name, step.fingerprint)
    if artifact is None or (damage := find_damage(artifact)) is None:
        return artifact
    text = f"warning: {label}: is made again, since {damage} at {artifact.url}"
    tell(text, level="warning", event="artifact_damaged")
    withdraw(artifact, damage)
    return None


def _reuse(
    step: Step, artifact: Artifact, policy: SkipPolicy, label: str, say: Callable[[str], None], how: str
) -> None:
    facts = step.facts_type.read(artifact)
    _check(step, policy, facts, artifact.url)
    with about(event="step_reused"):
        say(f"{label}: {how} ({step.summary(facts)})")


def _make_or_wait(
    step: Step, store: ArtifactStore, context: StepContext, say: Callable[[str], None], needs: Sequence[str]
) -> Artifact:
    """Make an artifact, or wait until another job has made it."""
    label = context.title

    def find() -> Artifact | None:
        return store.find(step.name, step.fingerprint)

    while True:
        with Claim(
            context.folder,
            lambda: find() is not None,
            lambda holder: say(f"{label}: waiting for {holder}, which makes it"),
            needs,
            lambda holder: say(f"{label}: {holder} has gone and is succeeded"),
        ) as claim:
            if artifact := find():
                remove_checkpoints(context.folder)  # if this process has left some behind
                _reuse(step, artifact, context.policy, label, say, "made by another job")
                return artifact
            connection.connect(context.cluster)
            try:
                return _make(step, store, replace(context, owns=claim.ownership.holds), say)
            except Exception:
                if not _was_overtaken(claim, find):
                    raise
            say(f"{label}: another job took over while this one stood still")


def _was_overtaken(claim: Claim, find: Callable[[], Artifact | None]) -> bool:
    """Whether another job has made the artifact or taken the claim, so that files of this one may be gone."""
    try:
        return find() is not None or not claim.ownership.holds()
    except UserError:  # the store fails, which is no news of another job
        return False


def _make(step: Step, store: ArtifactStore, context: StepContext, say: Callable[[str], None]) -> Artifact:
    label = context.title
    leave_preempted_trial()
    with about(event="step_started"):
        say(f"{label}: {step.plan()}")
    before = shared_capacity(context.cluster)
    began = time.monotonic()
    facts = step.make(context)
    files = list_own_files(context.folder)
    if lacks_withdrawn_files(context.folder, files):
        remove_files(context.folder)
        facts = step.make(context)
        files = list_own_files(context.folder)
    _check(step, context.policy, facts, context.folder)
    seconds = time.monotonic() - began
    warnings = step.warnings(facts, context)
    artifact = store.commit(
        step.name,
        step.fingerprint,
        {
            **step.recorded,
            "facts": facts.to_json(),
            **({"warnings": warnings} if warnings else {}),
            "files": {**files},
            "seconds": round(seconds, 3),
            "capacity": _larger(before, shared_capacity(context.cluster)),
        },
    )
    stores.remove_tree(context.file(WITHDRAWN_FILE))
    stores.remove_tree(context.file(UNITS_FOLDER))
    with about(event="step_done", seconds=round(seconds, 3)):
        say(f"{label}: done in {duration(seconds)} ({step.summary(facts)})")
    return artifact


def _larger(before: tuple[float, float], after: tuple[float, float]) -> dict[str, float]:
    """Return the CPUs and GPUs of a step: the larger number, since a cluster may grow or shrink meanwhile."""
    return {"cpus": max(before[0], after[0]), "gpus": max(before[1], after[1])}


def _check(step: Step, policy: SkipPolicy, facts: Facts, folder: str) -> None:
    step.check(facts, folder)
    if isinstance(facts, HasSkipped):
        policy.check(list(facts.skipped), facts.images_in)
