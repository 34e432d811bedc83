"""The graph of steps: makes the missing artifacts, each after its parents."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dpt_ray.config.schema import ClusterConfig
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, SkipPolicy
from dpt_ray.distributed import cluster as ray_cluster
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.job_log import about, tell
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import Claim
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
            artifact = store.find(step.name, step.fingerprint)
            if artifact is not None:
                facts = step.facts_type.read(artifact)
                _check(step, policy, facts, artifact.url)
                with about(event="step_reused"):
                    say(f"{label}: already made ({step.summary(facts)})")
            else:
                parents = {role: made[parent.name, parent.fingerprint] for role, parent in step.parents.items()}
                callback = callback_of.get((step.name, step.fingerprint))
                artifact = _make(step, store, parents, cluster, policy, label, say, callback, needs)
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


def _make(
    step: Step,
    store: ArtifactStore,
    parents: Mapping[str, Artifact],
    cluster: ClusterConfig,
    policy: SkipPolicy,
    label: str,
    say: Callable[[str], None],
    callback: EvaluationCallback | None,
    needs: Sequence[str],
) -> Artifact:
    folder = store.folder(step.name, step.fingerprint)

    def find() -> Artifact | None:
        return store.find(step.name, step.fingerprint)

    with Claim(
        folder,
        lambda: find() is not None,
        lambda holder: say(f"{label}: waiting for {holder}, which makes it"),
        needs,
    ):
        if artifact := find():
            facts = step.facts_type.read(artifact)
            _check(step, policy, facts, artifact.url)
            with about(event="step_reused"):
                say(f"{label}: made by another job ({step.summary(facts)})")
            return artifact
        ray_cluster.connect(cluster)
        with about(event="step_started"):
            say(f"{label}: {step.plan()}")
        began = time.monotonic()
        context = StepContext(folder, parents, cluster, label, policy, callback)
        facts = step.make(context)
        _check(step, policy, facts, folder)
        seconds = time.monotonic() - began
        warnings = step.warnings(facts, context)
        artifact = store.commit(
            step.name,
            step.fingerprint,
            {
                "version": step.version,
                "settings": step.settings,
                "parents": {
                    role: {"step": parent.step, "fingerprint": parent.fingerprint} for role, parent in parents.items()
                },
                "facts": facts.to_json(),
                **({"warnings": warnings} if warnings else {}),
                "seconds": round(seconds, 3),
            },
        )
        with about(event="step_done", seconds=round(seconds, 3)):
            say(f"{label}: done in {duration(seconds)} ({step.summary(facts)})")
        return artifact


def _check(step: Step, policy: SkipPolicy, facts: Facts, folder: str) -> None:
    step.check(facts, folder)
    if isinstance(facts, HasSkipped):
        policy.check(list(facts.skipped), facts.images_in)
