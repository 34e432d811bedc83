"""A step: a pure description of how an artifact follows from others."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.shards.skipped import SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.distributed.always_owned import always_owned
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.progress import ProgressLine, StepProgress
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import Artifact, fingerprint

MadeFacts = TypeVar("MadeFacts", bound=Facts, default=Any)
"""The facts of a step's artifact; a bare `Step` is a step of any kind."""


@dataclass(frozen=True)
class StepContext:
    """Where and with what a step makes its artifact.

    Attributes:
        folder: URL of the artifact's folder. Files of an interrupted call of `make` there may be used.
        parents: the finished artifacts that the step builds on.
        cluster: settings of the cluster.
        title: name of the step in messages.
        policy: limit for images that are left out.
        callback: evaluates a training while it runs.
        owns: returns whether this job is still the one that makes the artifact; it pickles.
        recorded: what the manifest will record of the step's description; only to find others like it.
    """

    folder: str
    parents: Mapping[str, Artifact]
    cluster: ClusterConfig
    title: str
    policy: SkipPolicy
    callback: EvaluationCallback | None = None
    owns: Callable[[], bool] = always_owned
    recorded: JsonObject | None = None

    def file(self, *parts: str) -> str:
        """Return the URL of a file in the artifact's folder."""
        return stores.join(self.folder, *parts)

    def progress(self, total: int, unit: str = "images") -> ProgressLine:
        """Return a progress line for the step."""
        return StepProgress(self.title, total, unit)


class Step(ABC, Generic[MadeFacts]):
    """One step of the method.

    Args:
        title: name of the step in messages; not part of its address.
        parents: role -> the step whose artifact it reads.
    """

    name: ClassVar[str]
    """Kind of artifact, the first part of its address."""
    version: ClassVar[int] = 1
    """Raised when the code changes so that equal settings give another artifact."""
    facts_type: type[MadeFacts]
    """The class of the artifact's facts."""

    def __init__(self, title: str, parents: "dict[str, Step]"):
        self.title, self.parents = title, parents

    @property
    @abstractmethod
    def settings(self) -> JsonObject:
        """Every setting that changes the artifact, and no other; a JSON object.

        It follows from the sections of the settings that the step holds, which are what `make` reads.
        """

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the name, version, settings and parents of the step, from which its artifact follows."""
        return fingerprint(
            {
                "step": self.name,
                "version": self.version,
                "settings": self.settings,
                "parents": {role: parent.fingerprint for role, parent in self.parents.items()},
            }
        )

    @property
    def recorded(self) -> JsonObject:
        """The description as the manifest records it: version, settings, and the addresses of the parents."""
        parents = {
            role: {"step": parent.name, "fingerprint": parent.fingerprint} for role, parent in self.parents.items()
        }
        return {"version": self.version, "settings": self.settings, "parents": parents}

    @property
    def address(self) -> str:
        """Where the artifact lies below the root: `<name>/<fingerprint>`."""
        return f"{self.name}/{self.fingerprint}"

    @abstractmethod
    def make(self, context: StepContext) -> MadeFacts:
        """Make the artifact's files and return its facts."""

    def check(self, facts: MadeFacts, folder: str) -> None:
        """Refuse a finished artifact in `folder` that the settings do not allow to be used.

        Raises:
            UserError: they don't.
        """

    def warnings(self, facts: MadeFacts, context: StepContext) -> list[str]:
        """Return what is wrong with a finished artifact that spoils the steps after it, one sentence each."""
        return []

    def summary(self, facts: MadeFacts) -> str:
        """Say in a few words what a finished artifact holds."""
        return ""

    def plan(self) -> str:
        """Say in a few words what making the artifact will do."""
        return ""
