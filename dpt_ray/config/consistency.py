"""Checks of settings in different sections against each other."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpt_ray.config.classifier_section import ClassifierModelConfig
    from dpt_ray.config.schema import RunConfig


def check_consistent(config: "RunConfig") -> None:
    """Refuse settings that contradict each other.

    Raises:
        ValueError: the message contains the settings and a remedy.
    """
    _check_batches(config)
    if config.has_stage0:
        _check_encoder(config)
    _check_mixing(config)
    _check_workers(config)
    _check_pseudo_labels(config)
    config.stage2.check_canvas(config.data)
    _check_sampling(config)
    _check_classifiers(config)


def _check_batches(config: "RunConfig") -> None:
    lanes = config.data.lanes
    batches = {"stage2.batch": config.stage2.batch}
    if config.has_stage0:
        batches["stage0.batch"] = config.stage0.batch
    for stage, settings in (("stage1", config.stage1), ("stage3", config.stage3)):
        if settings.model.name != "linear_probe":  # a probe is solved for, without batches
            batches[f"{stage}.labelled_batch"] = settings.labelled_batch
            batches[f"{stage}.unlabelled_batch"] = settings.unlabelled_batch
    for name, size in batches.items():
        if size % lanes:
            raise ValueError(f"{name} must be a multiple of data.lanes: {size} is not a multiple of {lanes}")


def _check_encoder(config: "RunConfig") -> None:
    model, size = config.stage0.model, config.data.image_size
    _check_network("stage0", model, config)
    if config.stage0.method == "msn" and size // 2 < model.patch_size and config.stage0.msn.focal_views:
        raise ValueError(
            f"stage0.msn.focal_views are half as wide as images of {size} pixels, less than a patch of "
            f"{model.patch_size}; set stage0.model.patch_size to at most {size // 2}, or focal_views=0"
        )
    if config.stage0.method == "msn" and (size // model.patch_size) ** 2 < 2:
        raise ValueError(
            f"stage0.method=msn leaves out patches, and an image of {size} pixels has one patch of {model.patch_size}; "
            f"set stage0.model.patch_size to at most {size // 2}"
        )


def _check_mixing(config: "RunConfig") -> None:
    if config.stage3.mixing.real_share is not None:
        config.stage3.mixing.split(config.stage3.labelled_batch, config.data.lanes)
    if config.stage3.mixing.from_stage1 and config.stage3.model != config.stage1.model:
        raise ValueError("stage3.mixing.from_stage1 needs the same network in both: set stage3.model as stage1.model")
    if config.stage3.mixing.from_stage1 and config.stage3.model.name == "linear_probe":
        raise ValueError("stage3.mixing.from_stage1 has no effect on a linear probe, which has one best fit")
    if config.stage3.mixing.from_stage1 and config.stage3.start not in (None, config.stage1.start):
        raise ValueError(
            "stage3.mixing.from_stage1 and stage3.from each give the weights that stage 3 starts with; give one of them"
        )


def _check_workers(config: "RunConfig") -> None:
    workers, passes = config.cluster.workers, config.cluster.gradient_accumulation
    least = workers[0] if isinstance(workers, tuple) else config.cluster.most_workers
    if least * passes > config.data.lanes:
        times = f" times cluster.gradient_accumulation={passes}" if passes > 1 else ""
        raise ValueError(
            f"cluster.workers{times} must be at most data.lanes, since each worker reads at least one lane"
            f"{' in each backward pass' if passes > 1 else ''}: {least * passes} is more than {config.data.lanes}"
        )


def _check_pseudo_labels(config: "RunConfig") -> None:
    if config.pseudo_labels.views > 0 and config.stage1.model.name == "linear_probe":
        raise ValueError(
            "pseudo_labels.views has no effect with stage1.model.name=linear_probe, whose features are of "
            "the image as it is; set pseudo_labels.views=0"
        )
    if config.pseudo_labels.assignment == "balanced" and config.stage2.conditioning.labels == "drawn":
        raise ValueError(
            "stage2.conditioning.labels=drawn draws from the probabilities of stage 1, which pseudo_labels.assignment="
            "balanced does not change; give one of them"
        )
    shares, classes = config.pseudo_labels.class_shares, config.data.num_classes
    if shares is not None and classes is not None and len(shares) != classes:
        raise ValueError(f"pseudo_labels.class_shares needs a share for each class: {len(shares)} for {classes}")


def _check_sampling(config: "RunConfig") -> None:
    classifier_free = config.sampling.guidance_method == "classifier_free"
    by_confidence = config.sampling.guidance_method == "confidence"
    if by_confidence and config.sampling.guidance_scale > 0 and not config.stage2.conditioning.confidence:
        raise ValueError(
            "sampling.guidance_method=confidence needs a generator that knows confidence; "
            "set stage2.conditioning.confidence=true"
        )
    if (
        config.sampling.guidance_method == "autoguidance"
        and config.sampling.weak_snapshot >= config.stage2.ema_snapshots
    ):
        raise ValueError(
            "sampling.guidance_method=autoguidance needs a stage2.ema_snapshots above sampling.weak_snapshot: "
            f"{config.stage2.ema_snapshots} is not above {config.sampling.weak_snapshot}"
        )
    if config.sampling.guidance_scale > 0 and classifier_free and config.stage2.label_dropout == 0:
        raise ValueError(
            "sampling.guidance_scale above 0 needs a generator trained with stage2.label_dropout above 0; "
            "set sampling.guidance_scale=0 or give stage2.label_dropout (the paper: 0.1 to 0.15)"
        )
    if config.sampling.entropy_scale > 0 and config.stage1.model.name == "linear_probe":
        raise ValueError(
            "sampling.entropy_scale above 0 needs a stage 1 with a gradient; "
            "set it to 0, or another stage1.model.name than linear_probe"
        )
    if config.sampling.entropy_scale > 0 and config.stage2.in_latents:
        raise ValueError(
            "sampling.entropy_scale above 0 needs a generator of pixels; "
            "set it to 0, or stage2.latents.autoencoder=null"
        )
    if config.sampling.ema_width is not None and not config.stage2.ema_snapshots:
        raise ValueError("sampling.ema_width needs stage2.ema_snapshots above 0, of which it makes its average")
    if config.sampling.sampler == "dpm_solver_pp_fast" and config.stage2.process == "edm":
        raise ValueError(
            "sampling.sampler=dpm_solver_pp_fast steps uniformly in time, but stage2.process=edm has noise levels "
            "only; set sampling.sampler=heun, or another process"
        )


def _check_classifiers(config: "RunConfig") -> None:
    for stage, settings in (("stage1", config.stage1), ("stage3", config.stage3)):
        augmentation = settings.augmentation
        _check_network(stage, settings.model, config)
        if augmentation.crop_padding >= config.data.image_size:
            raise ValueError(
                f"{stage}.augmentation.crop_padding must be below data.image_size "
                f"({augmentation.crop_padding} >= {config.data.image_size})"
            )


def _check_network(stage: str, model: "ClassifierModelConfig", config: "RunConfig") -> None:
    for name in ("mean", "std"):
        if len(getattr(model, name)) not in (1, config.data.channels):
            raise ValueError(f"{stage}.model.{name} needs one value, or one for each of data.channels")
    if model.name == "wide_resnet" and (model.depth - 4) % 6:
        raise ValueError(f"{stage}.model.depth must be 6 n + 4 for wide_resnet, not {model.depth}")
    if model.name == "vit" and config.data.image_size % model.patch_size:
        raise ValueError(
            f"{stage}.model.patch_size must divide data.image_size: {model.patch_size} does not divide "
            f"{config.data.image_size}"
        )
