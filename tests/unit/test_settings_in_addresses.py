"""A step reads the settings that its address follows from, and no others."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from autoencoder_folders import save_kl
from encoder_folders import save_msn
from settings_reads import Addressed, Sections, addressed, make_recorded

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.data.importing.found_data import FoundData
from dpt_ray.pipeline import steps
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.splits import validation_split

TINY = [
    "preset=digits",
    "data.images_per_shard=1000",
    "stage1.model.width=4",
    "stage1.images=320",
    "stage2.model.dim=16",
    "stage2.model.heads=2",
    "stage2.images=128",
    "sampling.per_class=2",
    "sampling.steps=3",
    "sampling.guidance_interval=[0.1, 10]",
]
OPTIONS = [
    "stage1.optimizer.warmup_images=160",
    "stage1.optimizer.gradient_clip=1",
    "pseudo_labels={assignment: balanced, views: 2, class_shares: [1, 1, 1, 1, 1, 1, 1, 1, 1, 2]}",
    "stage2.model={name: ddpmpp, channels: 8, multipliers: [1, 1], blocks: 1, dropout: 0.1}",
    "stage2.augmentation=0.1",
    "stage2.pretraining={images: 128, clusters: 3}",
    "stage2.conditioning={least_confidence: 0.1, confidence: true, true_labels: true, clusters: 2}",
    "stage2.process=flow_matching",
    "stage2.loss_weighting=min_snr",
    "stage2.optimizer.weight_decay=0.01",
    "stage2.ema_half_life=100",
    "stage2.ema_ramp=0.5",
    "stage2.ema_snapshots=3",
    "sampling.ema_width=0.1",
    "sampling.guidance_method=autoguidance",
    "sampling.entropy_scale=0.5",
    "stage3.mixing={real_share: 0.5, only_agreeing: true, unlabelled: true, separate_statistics: true}",
]
LATENTS = [
    "stage2.latents={autoencoder: KL_FOLDER, downsampling: 2}",
    "stage2.model.patch_size=2",
    "stage2.pretraining.images=128",
]
PROBE = [
    "stage1={model: {name: linear_probe}, probe: {encoder: MSN_FOLDER, resize: 8, crop: 8}}",
    "stage3.probe={blocks: 2, only_agreeing: true}",
    "labels.per_class=8",
]
HEADS = [
    *PROBE,
    "stage1.probe={head: mixture, mixture: {components: 1, max_iterations: 5}}",
    "stage3.probe={head: propagation, propagation: {class_shares: equal}, max_evaluations: 20}",
]
OWN = [
    *PROBE[1:],
    "stage1={model: {name: linear_probe}, probe: {encoder: stage0}}",
    "stage0={images: 64, batch: 32, hidden: 8, projection: 8, optimizer: {warmup_images: 32}}",
    "stage0.model={name: resnet18, width: 4}",
    "stage0.emp_ssl.patches=2",
]
MSN = [
    "stage0.model={name: vit, patch_size: 2, dim: 16, blocks: 1, heads: 2}",
    "stage0.msn={prototypes: 8, sinkhorn: 1}",
    "stage0.method=msn",
]
ENCODER = [
    "evaluation={generation: true, network: MSN_FOLDER, encoder_size: 8, sample: 200, reference: REFERENCE_FILE}",
    "stage1.images=128",
]
CASES: dict[str, tuple[list[str], ValidationConfig | None]] = {
    "plain": ([], None),
    "options": (OPTIONS, ValidationConfig(images="training", per_class=2)),
    "from stage 1": (["stage3.mixing.from_stage1=true", "stage1.algorithm.name=flexmatch"], None),
    "self-training": (["stage3.mixing.images=real", "stage2.conditioning.labels=drawn"], None),
    "probe": (PROBE, ValidationConfig(images="labelled", share=0.5)),
    "heads": (HEADS, None),
    "stage 0, vicreg": ([*OWN, "stage0.views={rotation: 10, scale: [0.5, 0.9]}"], None),
    "stage 0, emp_ssl": ([*OWN, "stage0.method=emp_ssl"], None),
    "stage 0, msn": ([*OWN[:-2], *MSN], None),
    "latents": (LATENTS, None),
    "generation": (["evaluation.generation=true", "evaluation.frechet=false"], None),
    "generation by an encoder": (ENCODER, None),
    "score": (["evaluation.classification_score=true", "stage3.images=320"], None),
    "score of a probe": ([*PROBE, "evaluation.classification_score=true"], None),
}

NO_RESULT = {
    ("labelled_subset", "data.class_file"): "names classes in complaints",
    ("labelled_subset", "data.class_names"): "names classes in complaints",
    ("shards", "data.num_classes"): "decides whether gaps between class ids are refused",
    ("features", "probe.encoder"): "the encoder's content is in the address, not its location",
    ("generator", "latents.autoencoder"): "the autoencoder's content is in the address, not its location",
    ("pseudo_images", "latents.autoencoder"): "the autoencoder's content is in the address, not its location",
    ("classifier", "mixing.pseudo_weight"): "stage 1 has no pseudo images",
    ("generator", "optimizer.decay_all_parameters"): "without weight decay nothing follows from it",
    ("classifier", "augmentation.strong_operations"): "supervised training has no strong view",
    ("classifier", "augmentation.cutout"): "supervised training has no strong view",
    ("classifier", "augmentation.cutout_fill"): "supervised training has no strong view",
    ("pretraining", "latents.autoencoder"): "the autoencoder's content is in the address, not its location",
    ("pretraining", "optimizer.decay_all_parameters"): "without weight decay nothing follows from it",
    ("pretraining", "images"): "its copy of the section holds `pretraining.images` in this place",
    ("pretraining", "label_dropout"): "its copy of the section holds 0: there is no label",
    ("pretraining", "ema_snapshots"): "its copy of the section holds 0",
    ("labelled_subset", "labels.file"): "the list's content is in the address, not its location",
}
"""(kind of step, setting) -> why `make` reads it though its address does not follow from it."""

NOT_READ = {
    ("features", "probe.encoder"): "decides whether the encoder of stage 0 is a parent",
    ("generator", "data.channels"): "what trains on latents reads their channels",
    ("generator", "conditioning.least_confidence"): "`ConditioningLabels` reads it",
    ("generator", "conditioning.true_labels"): "`ConditioningLabels` reads it",
    ("pretraining", "data.channels"): "what trains on latents reads their channels",
    ("pretraining", "pretraining.clusters"): "decides which parents there are",
    ("pretraining", "pretraining.images"): "it is read as `images` of a copy of the section",
    ("classifier", "mixing.images"): "decides which parents there are",
    ("classifier", "mixing.from_stage1"): "decides which parents there are",
    ("classifier", "probe.only_agreeing"): "decides which parents there are",
    ("predictions", "evaluation.frechet"): "decides whether features are kept",
    ("predictions", "evaluation.generation"): "decides whether features are kept",
    ("predictions", "evaluation.network"): "decides whether features are kept",
    ("statistics", "evaluation.network"): "the network is found before",
    ("statistics", "evaluation.encoder_size"): "it is a property of the network, which is found before",
    ("generation", "evaluation.network"): "the network is found before",
    ("generation", "evaluation.reference"): "the file is found before",
}
"""(kind of step, setting) -> why it is in the settings of the address though `make` does not read it."""


class FixedInputs(Inputs):
    """What lies in storage, whatever the settings that say where."""

    def __init__(self, config: RunConfig):
        super().__init__()
        self._given = config

    def data(self, split: Any, data: DataConfig) -> FoundData:
        return super().data(split, self._given.data)

    def encoder(self, location: str) -> dict[str, Any]:
        return super().encoder(self._given.stage1.probe.encoder)

    def autoencoder(self, config: Any, data: DataConfig) -> Any:
        return super().autoencoder(self._given.stage2, self._given.data)


def shortened(name: str) -> str:
    """Return a setting's name without the stage or the section that stands for one."""
    first, _, rest = name.partition(".")
    return rest if first in ("stage0", "stage1", "stage2", "stage3") else name


def undeclared(kind: str, read: set[str], addressed: Addressed) -> set[str]:
    """Return what a step reads though its address does not follow from it."""
    names = {name for name in read - addressed.all - addressed.fixed if not name.startswith("cluster.")}
    return {name for name in names if (kind, shortened(name)) not in NO_RESULT}


def unread(kind: str, read: set[str], addressed: Addressed) -> set[str]:
    """Return what a step's own settings hold though it does not read it."""
    return {name for name in addressed.own - read if (kind, shortened(name)) not in NOT_READ}


def with_parents(steps: Mapping[str, Step]) -> dict[str, Step]:
    """Return steps and all that they build on; the ids of those are paths of roles."""
    found = dict(steps)
    for id, step in steps.items():
        found |= with_parents({f"{id}.{role}": p for role, p in step.parents.items() if p not in found.values()})
    return found


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pretrained")
    np.savez(folder / "reference.npz", mu=np.zeros(16), sigma=np.eye(16))
    return {
        "MSN_FOLDER": save_msn(folder / "encoder"),
        "KL_FOLDER": save_kl(folder / "autoencoder"),
        "REFERENCE_FILE": str(folder / "reference.npz"),
    }


@dataclass(frozen=True)
class Case:
    """Steps of a tiny run: what each one read, and what its address follows from."""

    kinds: dict[str, str]
    read: dict[str, set[str]]
    addressed: dict[str, Addressed]


@pytest.fixture(scope="module")
def cases(pretrained, tmp_path_factory) -> dict[str, Case]:
    found = {}
    for name, (settings, validation) in CASES.items():
        for word, place in pretrained.items():
            settings = [setting.replace(word, place) for setting in settings]
        config = load_config(None, TINY, settings)
        inputs = FixedInputs(config)

        def describe(sections: Sections, inputs: Inputs = inputs) -> dict[str, Step]:
            if "validation." not in sections:
                return with_parents(build(sections[""], inputs=inputs).by_id())
            split = partial(validation_split, validation=sections["validation."])
            return with_parents(build(sections[""], lambda c, i: split(c, inputs=i), inputs).by_id())

        sections = {"": config, **({"validation.": validation} if validation else {})}
        read = make_recorded(str(tmp_path_factory.mktemp("results")), sections, describe)
        kinds = {id: step.name for id, step in describe(sections).items()}
        found[name] = Case(kinds, read, addressed(sections, describe))
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_a_step_reads_is_in_its_address(cases, name):
    case = cases[name]
    found = {id: undeclared(kind, case.read[id], case.addressed[id]) for id, kind in case.kinds.items()}
    assert {id: names for id, names in found.items() if names} == {}


@pytest.mark.parametrize("name", CASES)
def test_what_a_steps_own_settings_hold_is_read(cases, name):
    case = cases[name]
    found = {id: unread(kind, case.read[id], case.addressed[id]) for id, kind in case.kinds.items()}
    assert {id: names for id, names in found.items() if names} == {}


def test_no_address_follows_from_how_the_work_is_spread(cases):
    followed = {name for case in cases.values() for found in case.addressed.values() for name in found.all}
    assert len(followed) > 80
    assert {name for name in followed if name.startswith(("cluster.", "name", "root", "preset"))} == set()


def test_every_kind_of_step_is_made(cases):
    modules = [importlib.import_module(m.name) for m in pkgutil.iter_modules(steps.__path__, f"{steps.__name__}.")]
    kinds = {value.name for m in modules for value in vars(m).values() if is_step(value)}
    assert {kind for case in cases.values() for kind in case.kinds.values()} == kinds


def is_step(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Step) and value is not Step


def test_every_setting_that_is_read_has_another_value_in_some_case(cases):
    read: dict[tuple[str, str], bool] = {}
    for case in cases.values():
        for id, kind in case.kinds.items():
            for name in case.read[id]:
                place = kind, shortened(name)
                read[place] = read.get(place, False) or name not in case.addressed[id].fixed
    assert {place for place, varied in read.items() if not varied and place not in NO_RESULT} == set()


def test_every_exception_is_needed(cases):
    read, own = set(), set()
    for case in cases.values():
        for id, kind in case.kinds.items():
            found = case.addressed[id]
            read |= {(kind, shortened(name)) for name in case.read[id] - found.all}
            own |= {(kind, shortened(name)) for name in found.own - case.read[id]}
    assert set(NO_RESULT) - read == set()
    assert set(NOT_READ) - own == set()


@dataclass(frozen=True, kw_only=True)
class SettingsRead(Facts):
    """Settings by name, with their values."""

    values: dict[str, Any]


class Planted(Step[SettingsRead]):
    """A step whose address holds some settings of the data, and which reads some."""

    name = "planted"
    facts_type = SettingsRead

    def __init__(self, data: DataConfig, held: tuple[str, ...], read: tuple[str, ...]):
        self._data, self._held, self._read = data, held, read
        super().__init__("planted", {})

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self._data, name) for name in self._held}

    def make(self, context: StepContext) -> SettingsRead:
        return SettingsRead(values={name: getattr(self._data, name) for name in self._read})


@pytest.mark.parametrize(
    ("held", "read", "expected"),
    [
        (("image_size", "channels"), ("image_size", "channels"), (set(), set())),
        (("image_size",), ("image_size", "channels"), ({"data.channels"}, set())),
        (("image_size", "channels"), ("image_size",), (set(), {"data.channels"})),
    ],
)
def test_a_step_that_reads_or_holds_a_setting_too_many_is_found(tmp_path, held, read, expected):
    sections = {"": load_config(None, TINY)}

    def describe(sections: Sections) -> dict[str, Step]:
        return {"planted": Planted(sections[""].data, held, read)}

    reads = make_recorded(str(tmp_path), sections, describe)["planted"]
    found = addressed(sections, describe)["planted"]
    assert (undeclared("planted", reads, found), unread("planted", reads, found)) == expected


def test_a_step_that_reads_the_settings_of_its_address_is_found(tmp_path):
    class Mixed(Planted):
        def make(self, context: StepContext) -> SettingsRead:
            return SettingsRead(values=self.settings)

    with pytest.raises(AssertionError, match="not its sections"):
        make_recorded(str(tmp_path), {"": load_config(None, TINY)}, lambda s: {"mixed": Mixed(s[""].data, (), ())})
