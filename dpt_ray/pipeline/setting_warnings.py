"""Warnings of settings that are allowed but have no effect or spoil the result, one line each."""

import math
import os
from collections.abc import Collection, Iterator

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.effects import unread_settings
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.probe_section import STAGE0
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.models.efficientnet_lite import LITE
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_settings
from dpt_ray.core.training.from_settings import images_per_step
from dpt_ray.json_values import Json, JsonObject
from dpt_ray.networks.pretrained.model_files import is_folder

INITIAL_SHARE = 0.25
"""Largest share of the initial value in an average at the end of a training without a warning."""
LARGEST_RATE = {"sgd": 1.0, "adam": 0.1, "adamw": 0.1}
SMALLEST_RATE = 1e-8
LARGEST_GUIDANCE = 10
SMALLEST_FRACTION = 1e-3
PHOTOS = "photos"
"""The preset under which all labels count by default: its choices say so, and unlabelled images are beside them."""

_SECTIONS = ("data", "labels", "pseudo_labels", "stage2", "sampling", "evaluation", "cluster")


def setting_warnings(
    config: RunConfig, in_file: Collection[str] = (), on_command_line: Collection[str] = ()
) -> list[str]:
    """Return a warning for each doubtful setting.

    Args:
        config: all settings.
        in_file: dotted names of the settings in the file; those with their default value give no warning.
        on_command_line: dotted names of the settings of `--set`.
    """
    return [
        *_without_effect(config, in_file, on_command_line),
        *_data(config),
        *(_encoder(config.stage0, config.data) if config.has_stage0 else ()),
        *_classifier("stage1", config.stage1, config.data),
        *_generator(config.stage2, config.data),
        *_drawing(config),
        *_classifier("stage3", config.stage3, config.data),
        *_mixing(config),
        *_hub_models(config),
        *_workers(config),
    ]


def unread_in_run(config: RunConfig) -> dict[str, str]:
    """Return the settings and sections that a run does not read: dotted name -> condition under which it is read."""
    unread: dict[str, str] = {}
    if config.has_stage0:
        unread |= {f"stage0.{inner}": when for inner, when in unread_settings(config.stage0).items()}
    else:
        unread["stage0"] = "probe.encoder: stage0"
    for name in ("stage1", "stage3"):
        stage = getattr(config, name)
        consistency_view = algorithm_class(stage.algorithm.name, f"{name}.algorithm.name").consistency_view
        unread |= {f"{name}.{inner}": when for inner, when in unread_settings(stage, consistency_view).items()}
    for name in _SECTIONS:
        unread |= {f"{name}.{inner}": when for inner, when in unread_settings(getattr(config, name)).items()}
    return unread


def _without_effect(config: RunConfig, in_file: Collection[str], on_command_line: Collection[str]) -> Iterator[str]:
    unread, values, defaults = unread_in_run(config), _flat(config), _flat(RunConfig())
    given = {name for name in in_file if name not in defaults or values.get(name) != defaults[name]}
    given |= set(on_command_line)
    for name in sorted(given):
        when = _reason_unread(name, unread)
        heir = f"stage3.{name.removeprefix('stage1.')}"  # stage 3 inherits settings of stage 1
        inherited = name.startswith("stage1.") and heir not in given and _reason_unread(heir, unread) is None
        if when is not None and not inherited:
            yield f"{name} has no effect: it is read with {when}"
    if config.cluster.local_cpus is not None and os.environ.get("RAY_ADDRESS"):
        yield "cluster.local_cpus has no effect: RAY_ADDRESS names a cluster, so that no local Ray is started"


def _reason_unread(name: str, unread: dict[str, str]) -> str | None:
    return next((when for path, when in unread.items() if name == path or name.startswith(f"{path}.")), None)


def _flat(config: RunConfig) -> dict[str, Json]:
    def leaves(tree: JsonObject, prefix: str) -> Iterator[tuple[str, Json]]:
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(leaves(config.model_dump(mode="json"), ""))


def _data(config: RunConfig) -> Iterator[str]:
    data, labels = config.data, config.labels
    largest = max(
        config.stage0.batch if config.has_stage0 else 0,
        config.stage1.labelled_batch,
        config.stage1.unlabelled_batch,
        config.stage2.batch,
    )
    if data.shuffle_window < largest:
        yield (
            f"data.shuffle_window={data.shuffle_window} is smaller than a step of {largest} images: images that lie "
            "side by side, often of one class, stay together"
        )
    if data.on_error == "skip" and data.max_skipped_share >= 0.5:
        yield f"data.max_skipped_share={data.max_skipped_share:g} lets a run go on without most of its images"
    if data.max_image_pixels < data.image_size**2:
        yield f"data.max_image_pixels={data.max_image_pixels} is below data.image_size={data.image_size} squared"
    if labels.fraction == 1 and config.preset != PHOTOS:
        yield "labels.fraction=1 labels every image: none is left for stage 1 to label"
    elif labels.fraction is not None and labels.fraction < SMALLEST_FRACTION:
        yield (
            f"labels.fraction={labels.fraction:g} is one image of each class where a class has fewer than "
            f"{math.ceil(1 / labels.fraction):,} images"
        )


def _encoder(config: EncoderConfig, data: DataConfig) -> Iterator[str]:
    steps = math.ceil(config.images / config.batch)
    if config.method != "msn":  # its decay rises
        yield from _average(
            f"stage0.ema_decay={config.ema_decay:g}", config.ema_decay**steps, steps, "averaged weights"
        )
    yield from _optimizer("stage0.optimizer", config.optimizer, config.images)
    if data.train == "digits" and config.views.flip:
        yield "stage0.views.flip mirrors digits, and a mirrored digit is none; set it to false"


def _classifier(stage: str, config: ClassifierConfig, data: DataConfig) -> Iterator[str]:
    if config.model.name == "linear_probe":
        return
    steps = math.ceil(config.images / images_per_step(config))
    yield from _average(f"{stage}.ema_decay={config.ema_decay:g}", config.ema_decay**steps, steps, "averaged weights")
    yield from _optimizer(f"{stage}.optimizer", config.optimizer, config.images)
    yield from _algorithm(stage, config, steps)
    for name in ("mean", "std"):
        if any(not 0 <= value <= 1 for value in getattr(config.model, name)):
            yield f"{stage}.model.{name} is of images in [0, 1]; values of images in [0, 255] are divided by 255"
    if data.train == "digits" and config.augmentation.flip:
        yield f"{stage}.augmentation.flip mirrors digits, and a mirrored digit is none; set it to false"


def _algorithm(stage: str, config: ClassifierConfig, steps: int) -> Iterator[str]:
    consistency_view = algorithm_class(config.algorithm.name).consistency_view
    settings = algorithm_settings(config.algorithm, f"{stage}.algorithm").model_dump()
    momentum = settings.get("statistics_momentum", 0)
    name = f"{stage}.algorithm.statistics_momentum={momentum:g}"
    yield from _average(name, momentum**steps, steps, "statistics of the algorithm")
    if settings.get("unlabelled_weight") == 0:
        yield f"{stage}.algorithm.unlabelled_weight=0: unlabelled images teach nothing"
    if settings.get("threshold", 0) >= 1:
        yield f"{stage}.algorithm.threshold=1 is reached by no prediction: unlabelled images teach nothing"
    augmentation = config.augmentation
    if consistency_view == "strong" and augmentation.strong_operations == 0 and augmentation.cutout == 0:
        yield f"{stage}.augmentation: without strong_operations and cutout the strong view is another weak one"
    if consistency_view == "strong" and augmentation.cutout > 0.9:
        yield f"{stage}.augmentation.cutout={augmentation.cutout:g} can erase nearly the whole image"


def _average(setting: str, initial: float, steps: int, what: str) -> Iterator[str]:
    if initial > INITIAL_SHARE:
        yield f"{setting}: after {steps:,} steps {initial:.0%} of the {what} are still the initial ones"


def _optimizer(name: str, config: OptimizerConfig, images: int) -> Iterator[str]:
    if config.warmup_images > images:
        yield (
            f"{name}.warmup_images={config.warmup_images} goes beyond the end of the training, {images} images: the "
            f"learning rate reaches {images / config.warmup_images:.0%} of {config.learning_rate:g}"
        )
    rate, largest = config.learning_rate, LARGEST_RATE[config.name]
    if rate > largest:
        yield f"{name}.learning_rate={rate:g} is far above what {config.name} takes (at most about {largest:g})"
    if rate < SMALLEST_RATE:
        yield f"{name}.learning_rate={rate:g} is so small that the weights stay as they are"
    if rate * config.weight_decay >= 1:
        yield f"{name}.weight_decay={config.weight_decay:g} times the learning rate erases the weights in each step"


def _generator(config: GeneratorConfig, data: DataConfig) -> Iterator[str]:
    steps = math.ceil(config.images / config.batch)
    if config.ema_half_life is None:
        setting, initial = f"stage2.ema_decay={config.ema_decay:g}", config.ema_decay**steps
    else:
        setting = f"stage2.ema_half_life={config.ema_half_life}"
        initial = 0.5 ** (config.images / config.ema_half_life) if config.ema_ramp is None else 0.0
    yield from _average(setting, initial, steps, "averaged weights")
    yield from _optimizer("stage2.optimizer", config.optimizer, config.images)
    size, _ = config.canvas(data)
    levels = [size // config.model.space_to_depth // 2**level for level in range(len(config.model.multipliers))]
    absent = [side for side in config.model.attention_sizes if side not in levels]
    if config.model.name == "ddpmpp" and absent:
        yield (
            f"stage2.model.attention_sizes: no level has the size {', '.join(map(str, absent))}; "
            f"there are {', '.join(map(str, levels))}"
        )
    if config.label_dropout > 0.5:
        yield f"stage2.label_dropout={config.label_dropout:g}: the generator sees few labels (the paper: 0.1 to 0.15)"
    if config.augmentation > 0.5:
        yield f"stage2.augmentation={config.augmentation:g}: the generator sees few images as they are (EDM: 0.12)"
    if config.conditioning.least_confidence >= 1 and not config.conditioning.true_labels:
        yield "stage2.conditioning.least_confidence=1 drops the labels of nearly all images"
    if config.ema_snapshots > steps:
        yield f"stage2.ema_snapshots={config.ema_snapshots} is more than the training's {steps:,} steps"
    if data.train == "digits" and config.flip:
        yield "stage2.flip mirrors digits, and a mirrored digit is none; set it to false"


def _drawing(config: RunConfig) -> Iterator[str]:
    sampling, augmentation = config.sampling, config.stage1.augmentation
    if sampling.guidance_scale > LARGEST_GUIDANCE:
        yield f"sampling.guidance_scale={sampling.guidance_scale:g}: scales above {LARGEST_GUIDANCE} spoil images"
    if config.pseudo_labels.views > 0 and not augmentation.flip and augmentation.crop_padding == 0:
        yield "pseudo_labels.views has no effect: without stage1.augmentation.flip and crop_padding all views are equal"


_ADDED = {"pseudo": "pseudo images", "real": "pseudo-labelled images"}


def _mixing(config: RunConfig) -> Iterator[str]:
    mixing = config.stage3.mixing
    if config.stage3.model.name == "linear_probe":
        return
    if mixing.pseudo_weight == 0 and not mixing.unlabelled:
        yield f"stage3.mixing.pseudo_weight=0: stage 3 learns nothing from {_ADDED[mixing.images]}"
    if mixing.only_agreeing and mixing.least_confidence >= 1:
        yield "stage3.mixing.least_confidence=1 leaves out nearly all pseudo images"


def _workers(config: RunConfig) -> Iterator[str]:
    """Yield a warning if fewer workers would take equally long: the one with most lanes sets the time of a step."""
    workers, lanes = config.cluster.workers, config.data.lanes
    if isinstance(workers, tuple) or workers < 2:
        return
    most = math.ceil(lanes / workers)
    if (enough := math.ceil(lanes / most)) < workers:
        yield (
            f"cluster.workers={workers}: some workers hold {most} of {lanes} data.lanes, so a step takes as long as "
            f"with {enough} workers"
        )


def _hub_models(config: RunConfig) -> Iterator[str]:
    """Yield a warning for each model on the hub without a revision, once for each."""
    places = {"stage2.latents.autoencoder": config.stage2.latents.autoencoder}
    for stage in ("stage1", "stage3"):
        if getattr(config, stage).model.name == "linear_probe":
            places[f"{stage}.probe.encoder"] = getattr(config, stage).probe.encoder
    warned = set[str]()
    for name, place in places.items():
        if place in (None, LITE, STAGE0) or is_folder(place) or "@" in place or place in warned:
            continue
        warned.add(place)
        yield (
            f"{name}={place} names no revision, so it stands for whatever the hub gives that day; "
            f"name a commit, {place}@COMMIT, or a folder with its files"
        )
