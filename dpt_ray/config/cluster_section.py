"""Section `cluster`: where and how a run computes. No setting of it changes a result beyond rounding."""

from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from dpt_ray.config.effects import ReadWhen
from dpt_ray.config.places import Place
from dpt_ray.config.section import Count, Positive, Section


def _number_or_range(value: Any, read: ValidatorFunctionWrapHandler) -> int | tuple[int, int]:
    """Return a number of workers, 0 or more, or a range of at least 1.

    Raises:
        PydanticCustomError: it is neither. A union's own error would be one for each of its types.
    """
    refusal = PydanticCustomError("worker_range", "a number from 0 on, or a range such as [2, 8], is wanted")
    try:
        workers: int | tuple[int, int] = read(value)
    except ValidationError:
        raise refusal from None
    least, most = workers if isinstance(workers, tuple) else (workers + 1, workers + 1)
    if not 1 <= least <= most:
        raise refusal
    return workers


class ClusterConfig(Section):
    """How the work is distributed. No setting here changes a result beyond floating-point rounding."""

    workers: Annotated[int | tuple[int, int], WrapValidator(_number_or_range)] = 1
    """Number of training workers: processes with DistributedDataParallel. With 0, a local Ray and no GPUs, the job's
    own process trains (Ray Train's local mode): a training starts about 20 s sooner, but no worker can be restarted.
    Otherwise 0 means 1. A range `[least, most]` makes trainings elastic: as many workers as the nodes host, fewer after
    the loss of a node, and more when nodes join. There are at most `data.lanes`; where the number does not divide them,
    some workers have the images of one lane more in each step."""
    grow_seconds: Annotated[
        Positive, ReadWhen("workers a range", lambda cluster: isinstance(cluster.workers, tuple))
    ] = 60
    """Time in seconds between two looks for nodes that host more workers. A training that grows stores a checkpoint
    and starts its workers again, which takes half a minute."""
    cpus_per_worker: Positive | None = None
    """Number of CPUs that each training worker reserves; by default as many as fit on the nodes beside a CPU for
    readers, at most 4 for a worker with a GPU."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """Number of GPUs that each training worker reserves. Above 0, batch inference uses GPUs, too."""
    channels_last: bool = False
    """Train with the channels-last memory format, which is faster on recent GPUs."""
    compile: bool = False
    """Compile networks for training, and generators for sampling (`torch.compile`). It takes about a minute at the
    start and needs a C++ compiler."""
    compiled_code: Annotated[Place | None, ReadWhen("compile", lambda cluster: cluster.compile)] = None
    """Folder or object-store URL where compiled code is kept for other machines, by versions and card; on one machine
    it is kept anyway. It is code: whoever may write there may run programs in your jobs, so give it a place that only
    you can write."""
    cuda_graph: Annotated[bool, ReadWhen("gpus_per_worker above 0", lambda cluster: cluster.gpus_per_worker > 0)] = (
        False
    )
    """Capture the training step as one CUDA graph, so that the GPU does not wait for the host to launch kernels. It
    needs one training worker; with several a line says that steps are not captured. It has not run on a GPU yet."""
    inference_workers: Count | None = None
    """Number of processes for labelling and sampling; by default one a GPU, or one a CPU without GPUs."""
    inference_batch: Count | None = None
    """Batch size of a classifier's predictions. By default 256 on CPUs, and on GPUs the largest power of two up to 4096
    that takes at most half of the free memory."""
    encoding_batch: Count | None = None
    """Batch size of a frozen encoder or an autoencoder. By default 16 on CPUs; on GPUs see `inference_batch`. On CPUs,
    batches that fit the caches are faster: 2 images of 224 pixels for `efficientnet-lite0`."""
    sampling_batch: Count | None = None
    """Batch size of a generator's sampling. By default 100 on CPUs; on GPUs see `inference_batch`."""
    local_cpus: Count | None = None
    """Number of CPUs of the local Ray that a job starts when RAY_ADDRESS names no cluster; all by default."""
    keep_mib: Annotated[int, Field(ge=0)] = 1024
    """A data set of at most this decoded size, in MiB, is kept decoded in the object store; a larger one is
    streamed."""
    keep_gpu_mib: Annotated[
        Annotated[int, Field(ge=0)] | None,
        ReadWhen("gpus_per_worker above 0", lambda cluster: cluster.gpus_per_worker > 0),
    ] = None
    """Most MiB of a training's images or latents that lie on each GPU, the smallest sources first; by default what fits
    beside the network and its activations. The rest is copied two steps ahead."""
    list_again: bool = False
    """List class folders again. Those with 100,000 files or more are listed once for all commands with the same root,
    and again only after a folder on a local disk has changed; what was added to a store is seen with this setting
    alone."""
    recompute_activations: bool = False
    """Generators: activation checkpointing. The backward pass recomputes the activations of each block, which takes
    about a third more time and much less memory."""
    gradient_accumulation: Count = 1
    """Generators: number of backward passes of a worker in a step. Each takes a share of the worker's lanes, so more
    passes need less memory. Times `workers`, it must be at most `data.lanes`."""
    shard_weights: Annotated[bool, ReadWhen("workers above 1", lambda cluster: cluster.most_workers > 1)] = False
    """Generators: shard the weights, averages and moments over the workers (FSDP2), for networks that do not fit on one
    GPU."""
    checkpoint_seconds: Positive = 60
    """Least time between two checkpoints of a training, in seconds. A checkpoint follows a row of the loss curve."""
    keep_training_state: bool = True
    """Keep the state at the end of a training with its artifact, so that the training can be extended by a larger
    `images`. It takes three times the size of the network (sgd) or four times (adam, adamw), and with
    `stage2.ema_snapshots` two more. `dpt runs gc --states` removes it."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Number of failures, of a worker or of Ray Train's controller, that a training tolerates without progress: a new
    checkpoint begins a new count. Preemptions are not counted."""
    preemption_seconds: Positive = 25
    """Longest time in seconds from a notice of preemption (SIGTERM, or a node that Ray drains) to the end of the
    checkpoint that is made at once. The clouds warn 30 s or more before they reclaim a machine."""
    collective_seconds: Annotated[
        float, Field(ge=10), ReadWhen("workers above 1", lambda cluster: cluster.most_workers > 1)
    ] = 600
    """Longest time in seconds that a training worker waits for another one, which may hang or be cut off. All workers
    then start again. It must exceed what one worker does alone: evaluations, pictures, storing a checkpoint."""
    price_per_cpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of a CPU for an hour, in `currency`. With it or the next one the report says what each step cost: its time
    at the price of all CPUs and GPUs that the cluster had, busy or not, shared equally by runs at the same time."""
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of a GPU for an hour, in `currency`; with the CPUs beside it unless they have a price of their own."""
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    """Name or sign of the currency of both prices."""
    wait_seconds: Annotated[float, Field(ge=0)] = 0
    """Time in seconds that a step or a training waits for nodes while those that are there do not host its processes:
    for clusters that scale automatically or replace lost nodes. With 0 the job is refused at once."""

    @property
    def most_workers(self) -> int:
        """The largest number of workers that share a training, in whichever process."""
        return self.workers[1] if isinstance(self.workers, tuple) else max(1, self.workers)

    def worker_counts(self, lanes: int | None = None) -> tuple[int, ...]:
        """Return the numbers of workers that may share a training, the largest first.

        Args:
            lanes: the setting `data.lanes`. Each backward pass of each worker takes at least one lane. None for all
                numbers of a range.
        """
        if not isinstance(self.workers, tuple):
            return (self.most_workers,)
        least, most = self.workers
        if lanes is not None:
            most = min(most, lanes // self.gradient_accumulation)
        return tuple(range(most, least - 1, -1))
