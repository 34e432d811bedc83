"""What a training is, and what each of its workers receives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event as StopEvent
from typing import Any

from dpt_ray import plugins
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.distributed.always_owned import always_owned
from dpt_ray.distributed.board import Board
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.events import Event
from dpt_ray.distributed.notice import Notice
from dpt_ray.distributed.preview import Preview
from dpt_ray.distributed.watching_actor import Mailbox

HISTORY_FILE = "history.json"


@dataclass(frozen=True)
class TrainingJob:
    """A training as its workers need it. The sections of the settings travel whole.

    Attributes:
        config: the section of the stage: optimizer and precision.
        data: the section `data`: lanes and shuffle window of the data order.
        cluster: the section `cluster`: what is kept in memory, memory layout, compilation, gradient accumulation,
            sharding, and how many failures are tolerated.
        build: returns the state before the first step.
        finish: returns the file of the trained network.
        sources: source name -> its images, and their number in a step over all workers.
        schedule: where training ends, and when history rows, checkpoints and snapshots are due.
        seed: fixes the data order and every random number.
        folder: URL of the folder that gets the network and the history.
        owns: returns whether this job may still train there; another one may have taken over while it stood still.
    """

    config: ClassifierConfig | EncoderConfig | GeneratorConfig
    data: DataConfig
    cluster: ClusterConfig
    build: Callable[[], TrainState]
    finish: Callable[[TrainState], bytes]
    sources: dict[str, tuple[ImageSource, int]]
    schedule: Schedule
    seed: int
    folder: str
    owns: Callable[[], bool] = always_owned


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a training receives.

    Attributes:
        job: the training.
        readers: source name -> what the process which started the training has kept, or how to stream the source.
        threads: threads of PyTorch in a worker.
        board: sends messages to the actor `Board`.
        title: name of the training on the board.
        left: names of the checkpoints of earlier attempts.
        callback: evaluates the network; its `report` does nothing, since workers report through the board.
        preview: draws pictures of the network; None if nobody looks.
        plugins: plug-ins that the process which started the training has registered.
        stop: set when the training shall end before the next step; None in a worker process, which is killed instead.
        notice: notice of preemption for a training in the process of the job; None in a worker process, which has its
            own.
    """

    job: TrainingJob
    readers: Mapping[str, Any]
    threads: int
    board: Mailbox
    title: str
    left: Sequence[str]
    callback: EvaluationCallback | None
    preview: Preview | None
    plugins: Sequence[plugins.Plugin]
    stop: StopEvent | None
    notice: Notice | None

    def notes(self) -> Callable[[str | Event], None]:
        """Return a function that passes lines and events to the board.

        It has its own mailbox, since any thread may call it.
        """
        return partial(Mailbox(self.board.name).send, Board.note, self.title)
