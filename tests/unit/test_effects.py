"""Settings that are not read: they change no address and are warned about; those that are read change one."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dpt_ray.config.effects import ReadBy, ReadWhen, read_settings, unread_settings
from dpt_ray.config.load import load_config
from dpt_ray.config.scalars import is_section
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.models.inception import Inception
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.networks.classifier import classifier_file
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.setting_warnings import setting_warnings, unread_in_run

PROBE = ["{stage}.model.name=linear_probe"]
PROPAGATION, MIXTURE = ([*PROBE, f"{{stage}}.probe.head={head}"] for head in ("propagation", "mixture"))
VIT = ["{stage}.model.name=vit"]
OWN = [*PROBE, "{stage}.probe.encoder=stage0"]
STAGE0 = ["stage1.model.name=linear_probe", "stage1.probe.encoder=stage0"]
STAGE0_VIT = [*STAGE0, "stage0.model.name=vit"]
DDPMPP = ["stage2.model.name=ddpmpp"]
LATENTS = ["stage2.latents.autoencoder=owner/name", "stage2.latents.downsampling=4", "stage2.model.patch_size=1"]
SUPERVISED, WEAK = ["{stage}.algorithm.name=supervised"], ["{stage}.algorithm.name=pseudo_label"]
AUTOGUIDED = ["stage2.ema_snapshots=3", "sampling.guidance_method=autoguidance"]
FOLDER = tempfile.TemporaryDirectory()  # goes when the process ends


def _weights() -> str:
    """Write a trained classifier for the digits; return its path."""
    config = load_config(None, ["preset=digits"])
    state = classifier_training(config.stage3, channels=1, num_classes=10, seed=0)
    path = Path(FOLDER.name) / "network.safetensors"
    path.write_bytes(classifier_file(config.stage3.model, 1, 10, state))
    return str(path)


def _inception(dtype: torch.dtype) -> str:
    """Write weights for Inception-v3, all zero; return their path."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Inception().state_dict().items()}
    path = Path(FOLDER.name) / f"{dtype}.safetensors"
    save_file({name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}, path)
    return str(path)


def _reference() -> str:
    """Write reference statistics; return their path."""
    path = Path(FOLDER.name) / "reference.npz"
    np.savez(path, mu=np.zeros(2), sigma=np.eye(2))
    return str(path)


WEIGHTS = _weights()
INCEPTION = [_inception(torch.float16), _inception(torch.bfloat16)]
GENERATION = ["evaluation.generation=true"]

# setting: another value, what makes it read, and every way in which it is not read.
OF_CLASSIFIER = {
    "from": (WEIGHTS, [], [PROBE]),
    "model.width": ("8", [], [PROBE]),
    "model.depth": ("16", ["{stage}.model.name=wide_resnet"], [[], PROBE]),
    "model.form": ("preactivation", ["{stage}.model.name=wide_resnet"], [[], PROBE]),
    "model.patch_size": ("2", VIT, [[], PROBE]),
    "model.dim": ("96", VIT, [[], PROBE]),
    "model.blocks": ("3", VIT, [[], PROBE]),
    "model.heads": ("6", VIT, [[], PROBE]),
    "model.mean": ("[0.25]", [], [PROBE]),
    "model.std": ("[0.25]", [], [PROBE]),
    "probe": ("{crop: 200}", PROBE, [[]]),
    "probe.resize": ("300", PROBE, [[], OWN]),
    "probe.crop": ("200", PROBE, [[], OWN]),
    "probe.blocks": ("2", PROBE, [[], OWN]),
    "probe.propagation": ("{alpha: 0.5}", PROPAGATION, [[], PROBE, MIXTURE]),
    "probe.mixture": ("{components: 3}", MIXTURE, [[], PROBE, PROPAGATION]),
    "probe.regularisation": ("0.5", PROBE, [[], MIXTURE]),
    "probe.tolerance": ("0.5", PROPAGATION, [[], MIXTURE]),
    "probe.max_evaluations": ("5", PROBE, [[], MIXTURE]),
    "algorithm": ("{name: fixmatch}", [], [PROBE]),
    "mixing": ("{pseudo_weight: 0.5}", [], [PROBE]),
    "mixing.images": ("real", [], [PROBE]),
    "mixing.least_confidence": ("0.5", ["{stage}.mixing.only_agreeing=true"], []),  # it is refused without
    "mixing.unlabelled": ("true", [], [SUPERVISED]),
    "augmentation": ("{flip: true}", [], [PROBE]),
    "augmentation.strong_operations": ("2", [], [SUPERVISED, WEAK]),
    "augmentation.cutout": ("0.25", [], [SUPERVISED, WEAK]),
    "augmentation.cutout_fill": ("9", [], [SUPERVISED, WEAK, ["{stage}.augmentation.cutout=0"]]),
    "optimizer": ("{learning_rate: 0.01}", [], [PROBE]),
    "optimizer.momentum": ("0.5", [], [["{stage}.optimizer.name=adam"], ["{stage}.optimizer.name=adamw"]]),
    "optimizer.betas": ("[0.1, 0.2]", ["{stage}.optimizer.name=adamw"], [[]]),
    "optimizer.decay_all_parameters": ("true", [], [["{stage}.optimizer.weight_decay=0"]]),
    "images": ("3200", [], [PROBE]),
    "labelled_batch": ("96", [], [PROBE]),
    "unlabelled_batch": ("96", [], [PROBE, SUPERVISED]),
    "ema_decay": ("0.9", [], [PROBE]),
    "precision": ("bfloat16", [], [PROBE]),
    "seed": ("7", [], [PROBE]),
}
OF_RUN = {
    "stage0.model.width": ("8", STAGE0, [[], STAGE0_VIT]),
    "stage0.model.depth": ("16", [*STAGE0, "stage0.model.name=wide_resnet"], [[], STAGE0]),
    "stage0.model.form": ("preactivation", [*STAGE0, "stage0.model.name=wide_resnet"], [[], STAGE0]),
    "stage0.model.patch_size": ("2", STAGE0_VIT, [[], STAGE0]),
    "stage0.model.dim": ("96", STAGE0_VIT, [[], STAGE0]),
    "stage0.model.blocks": ("3", STAGE0_VIT, [[], STAGE0]),
    "stage0.model.heads": ("6", STAGE0_VIT, [[], STAGE0]),
    "stage0.model.mean": ("[0.25]", STAGE0, [[]]),
    "stage0.model.std": ("[0.25]", STAGE0, [[]]),
    "stage0.msn": ("{prototypes: 9}", [*STAGE0_VIT, "stage0.method=msn"], [[], STAGE0]),
    "stage0.emp_ssl": ("{patches: 3}", [*STAGE0, "stage0.method=emp_ssl"], [[], STAGE0]),
    "stage0.vicreg": ("{variance: 3}", STAGE0, [[], [*STAGE0, "stage0.method=emp_ssl"]]),
    "stage0.optimizer.momentum": ("0.5", [*STAGE0, "stage0.optimizer.name=sgd"], [[], STAGE0]),
    "stage0.optimizer.betas": ("[0.1, 0.2]", STAGE0, [[], [*STAGE0, "stage0.optimizer.name=sgd"]]),
    "stage0.optimizer.decay_all_parameters": ("true", STAGE0, [[], [*STAGE0, "stage0.optimizer.weight_decay=0"]]),
    "stage2.model.patch_size": ("1", [], [DDPMPP]),
    "stage2.model.dim": ("64", [], [DDPMPP]),
    "stage2.model.depth": ("6", [], [DDPMPP]),
    "stage2.model.heads": ("2", [], [DDPMPP]),
    "stage2.model.final_conv": ("false", [], [DDPMPP]),
    "stage2.model.bfloat16_stream": ("true", [], [DDPMPP]),
    "stage2.model.channels": ("64", DDPMPP, [[]]),
    "stage2.model.multipliers": ("[1, 2]", DDPMPP, [[]]),
    "stage2.model.blocks": ("2", DDPMPP, [[]]),
    "stage2.model.attention_sizes": ("[4]", DDPMPP, [[]]),
    "stage2.model.space_to_depth": ("2", DDPMPP, [[]]),
    "stage2.model.dropout": ("0.1", DDPMPP, []),  # it is refused without
    "stage2.latents.downsampling": ("2", LATENTS, [[]]),
    "stage2.latents.channels": ("3", LATENTS, [[]]),
    "stage2.latents.scale": ("0.5", LATENTS, [[]]),
    "stage2.latents.precision": ("bfloat16", LATENTS, [[]]),
    "stage2.latents.storage": ("float16", LATENTS, [[]]),
    "stage2.pretraining.clusters": ("3", ["stage2.pretraining.images=128"], [[]]),
    "stage2.flow_times": ("logit_normal", ["stage2.process=flow_matching"],
                          [[], ["stage2.process=variance_preserving"]]),
    "stage2.min_snr_gamma": ("2", ["stage2.loss_weighting=min_snr"], [[], ["stage2.loss_weighting=edm"]]),
    "stage2.optimizer.momentum": ("0.5", ["stage2.optimizer.name=sgd"], [[], ["stage2.optimizer.name=adam"]]),
    "stage2.optimizer.betas": ("[0.1, 0.2]", [], [["stage2.optimizer.name=sgd"]]),
    "stage2.optimizer.decay_all_parameters": ("true", ["stage2.optimizer.weight_decay=0.1"], [[]]),
    "stage2.ema_decay": ("0.9", [], [["stage2.ema_half_life=1000"]]),
    "pseudo_labels.sharpness": ("2", ["pseudo_labels.assignment=balanced"], [[]]),
    "sampling.guidance_method": ("autoguidance", ["stage2.ema_snapshots=2"],
                                 [["stage2.ema_snapshots=2", "sampling.guidance_scale=0"]]),
    "sampling.weak_snapshot": ("2", AUTOGUIDED, [["sampling.guidance_scale=0"], []]),
    "sampling.entropy_scale": ("0.5", [], []),
    "sampling.guidance_interval": ("[0.1, 10]", [], [["sampling.guidance_scale=0"]]),
    "evaluation.network": ("owner/name", GENERATION, [[]]),
    "evaluation.inception": (INCEPTION[0], [*GENERATION, "evaluation.network=inception",
                                            f"evaluation.inception={INCEPTION[1]}"], [[], GENERATION]),
    "evaluation.encoder_size": ("8", [*GENERATION, "evaluation.network=owner/name"], [[], GENERATION]),
    "evaluation.reference": (_reference(), GENERATION, [[]]),
    "evaluation.sample": ("200", GENERATION, [[]]),
    "labels.seed": ("3", [], [["labels.per_class=null", f"labels.file={Path(__file__)}"]]),
}  # fmt: skip
NO_PART_OF_ADDRESSES = {  # of these data; they are warned about alike
    "data.image_column": ("x", [["data.format=shards"], ["data.format=class_folders"], []]),
    "data.label_column": ("x", [["data.format=shards"], ["data.format=class_folders"], []]),
    "data.images_per_shard": ("9", [["data.format=shards"]]),
    "data.prepare_size": ("9", [["data.format=shards"]]),
    "data.max_skipped_share": ("0.5", [[]]),
    "data.test_share": ("0.3", [[]]),
    "data.test_seed": ("3", [[]]),
    "data.unlisted": ("unlabelled", [[]]),
    "cluster.shard_weights": ("true", [[]]),
    "cluster.cuda_graph": ("true", [[]]),
    "cluster.keep_gpu_mib": ("9", [[]]),
    "cluster.compiled_code": ("x", [[]]),
    "cluster.grow_seconds": ("30", [[], ["cluster.workers=4"]]),
    "cluster.collective_seconds": ("60", [[]]),
}
CASES = OF_RUN | {f"stage3.{name}": case for name, case in OF_CLASSIFIER.items()}


def marked(model=RunConfig, prefix="") -> dict[str, list]:
    """Every field of the schema with a mark, by dotted name."""
    found = {}
    for name, field in model.model_fields.items():
        marks = [mark for mark in field.metadata if isinstance(mark, ReadWhen | ReadBy)]
        section = is_section(field.annotation)
        if marks:
            found[prefix + name] = marks
        if section is not None:
            found |= marked(section, f"{prefix}{name}.")
    return found


def settings(name: str, given: list[str]) -> list[str]:
    return [setting.format(stage=name.partition(".")[0]) if "{stage}" in setting else setting for setting in given]


def addresses(overrides: list[str]) -> list[str]:
    config = load_config(None, ["preset=digits", "labels.per_class=4"], overrides)
    return [step.address for step in build(config).steps()]


def test_every_marked_setting_is_tried():
    tried = {*OF_RUN, *NO_PART_OF_ADDRESSES, *(f"{s}.{name}" for s in ("stage1", "stage3") for name in OF_CLASSIFIER)}
    assert set(marked()) == tried


@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name, (_, _, unread) in CASES.items() for given in unread], ids=str
)
def test_a_setting_that_is_not_read_changes_no_address(name, given):
    given, value = settings(name, given), CASES[name][0]
    assert addresses(given) == addresses([*given, f"{name}={value}"])


@pytest.mark.parametrize("name", CASES)
def test_a_setting_that_is_read_changes_an_address(name):
    value, given, _ = CASES[name]
    given = settings(name, given)
    assert addresses(given) != addresses([g for g in given if not g.startswith(f"{name}=")] + [f"{name}={value}"])


@pytest.mark.parametrize(
    ("name", "given"),
    [(name, given) for name, (_, _, unread) in CASES.items() for given in unread]
    + [(name, given) for name, (_, unread) in NO_PART_OF_ADDRESSES.items() for given in unread],
    ids=str,
)
def test_a_setting_that_is_not_read_is_warned_about_by_name(name, given):
    value = {**CASES, **NO_PART_OF_ADDRESSES}[name][0]
    overrides = [*settings(name, given), f"{name}={value}"]
    more = ["data.train=a", "data.test=b"] if "data.format=" in "".join(given) else []
    config = load_config(None, ["preset=digits"], overrides, more)
    for in_file, on_command_line in (({name}, ()), ((), {name})):
        assert any(
            line.startswith(f"{name} has no effect: it is read with")
            for line in setting_warnings(config, in_file, on_command_line)
        )


def test_a_setting_of_stage_1_that_stage_3_inherits_and_reads_is_not_warned_about():
    def lines(*overrides):
        config = load_config(None, ["preset=digits", *overrides])
        given = {override.partition("=")[0] for override in overrides}
        return [line for line in setting_warnings(config, (), given) if "no effect" in line]

    betas = "stage1.optimizer.betas=[0.1, 0.2]"
    assert [line.partition(" ")[0] for line in lines(betas)] == ["stage1.optimizer.betas"]
    assert lines(betas, "stage3.optimizer.name=adam") == []
    assert len(lines(betas, "stage3.optimizer.name=adam", "stage3.optimizer.betas=[0.5, 0.5]")) == 1


def test_settings_at_their_defaults_are_warned_about_on_the_command_line_alone():
    config = load_config(None, ["preset=digits", "stage1.optimizer.betas=[0.9, 0.999]"])
    assert setting_warnings(config, {"stage1.optimizer.betas"}) == []
    assert len(setting_warnings(config, (), {"stage1.optimizer.betas"})) == 1


def test_what_is_read_is_the_dump_without_what_is_not():
    config = load_config(None, ["preset=digits"]).stage2
    read, whole = read_settings(config), config.model_dump(mode="json")
    unread = unread_settings(config)
    assert {"flow_times", "min_snr_gamma", "model.channels", "latents.scale"} <= set(unread)
    assert "flow_times" not in read
    assert "channels" not in read["model"]
    assert read["model"]["dim"] == whole["model"]["dim"]
    assert read["optimizer"]["betas"] == whole["optimizer"]["betas"]


def test_a_probe_reads_nothing_of_a_training():
    config = load_config(None, ["preset=digits", "stage1.model.name=linear_probe"])
    assert set(read_settings(config.stage1)) == {"model", "probe"}
    assert {name for name in unread_in_run(config) if name.startswith("stage3.")} >= {
        "stage3.images",
        "stage3.algorithm",
    }
