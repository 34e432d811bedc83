"""Validation images: kept out of all that trains, the same for all trials, and never the test split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig, LabelsConfig
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.images.perceptual_hash import ImageHashes
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, read_labelled
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.validation import DataPart, LabelledRest, ValidationChoice

CLASSES = 3
DATA = DataConfig(num_classes=CLASSES)


class Given(Step):
    """A data set of so many images in each shard, labelled by number modulo 3; some rows cannot be used.

    `copies` maps the number of an image to that of another one, whose pixels it has.
    """

    name = "given"

    def __init__(self, counts, unusable=(), copies=()):
        self._counts, self._unusable, self._copies = list(counts), list(unusable), dict(copies)
        super().__init__("given", {})

    @property
    def settings(self):
        copies = {str(copy): of for copy, of in self._copies.items()}
        return {"counts": self._counts, "unusable": self._unusable, "copies": copies}

    def make(self, context: StepContext):
        shards, number, counts = [], 0, np.zeros(CLASSES, int)
        for position, count in enumerate(self.settings["counts"]):
            numbers = list(range(number, number + count))
            png = encode_png(np.zeros((1, 8, 8), np.uint8))
            data = build_shard(Sample(f"{n:04d}", {"png": png, "cls": str(n % CLASSES).encode()}) for n in numbers)
            stores.write_bytes(context.file(f"{position}.tar"), data)
            left_out = tuple(row for row in self.settings["unusable"] if row < count - 1)
            usable = [n for row, n in enumerate(numbers) if row not in left_out]
            labels = np.array([n % CLASSES for n in usable])
            hashes = np.array([[self._copies.get(n, n), 1, 2, 3] for n in usable], np.uint64)
            columns = {LABEL: labels, **ImageHashes(hashes[:, :2], hashes).columns(range(len(usable)))}
            stores.write_bytes(
                context.file("labels", sidecar_name(position)),
                encode_sidecar([f"{n:04d}" for n in usable], columns),
            )
            url = context.file(f"{position}.tar")
            shards.append(ShardInfo(url, len(data), sha256(data), len(usable), left_out, position))
            counts += np.bincount(labels, minlength=CLASSES)
            number += count
        index = DatasetIndex(tuple(shards), tuple(counts.tolist()), context.file("labels"))
        stores.write_json(context.file(INDEX_FILE), index.to_json(context.folder))
        return ChoiceFacts(images=index.num_images, of=index.num_images)


def make(root, *targets: Step):
    """Make steps that need no Ray."""
    store, made = ArtifactStore(str(root)), {}
    for step in in_order(list(targets)):
        parents = {role: made[parent.fingerprint] for role, parent in step.parents.items()}
        folder = store.folder(step.name, step.fingerprint)
        facts = step.make(StepContext(folder, parents, ClusterConfig(), step.title, TOLERATE_NOTHING))
        manifest = {"facts": facts.to_json(), "settings": step.settings, "seconds": 0.0}
        made[step.fingerprint] = store.commit(step.name, step.fingerprint, manifest)
    return [made[step.fingerprint] for step in targets]


def parts(whole: Step, validation: ValidationConfig, labelled: LabelledSubset | None = None):
    """Both parts of a data set, and the choice."""
    choice = ValidationChoice(validation, whole, labelled)
    return DataPart("training", whole, choice), DataPart("validation", whole, choice), choice


def content(artifact) -> dict[str, int]:
    """Key -> true label of all images of an indexed set, as its shards hold them; its sidecars must agree."""
    index, found = read_index(artifact.url), {}
    for position, shard in enumerate(index.shards):
        samples = read_shard_samples(shard)
        sidecar = read_sidecar(index.label_sidecar(position), [LABEL])
        assert sidecar[KEY] == [sample.key for sample in samples]
        assert sidecar[LABEL].tolist() == [sample.label(shard.url) for sample in samples]
        found |= dict(zip(sidecar[KEY], sidecar[LABEL].tolist(), strict=True))
    assert index.num_images == len(found)
    assert list(index.class_counts) == np.bincount(list(found.values()), minlength=CLASSES).tolist()
    return found


@given(
    copies=st.dictionaries(st.integers(0, 29), st.integers(0, 29), max_size=12),
    source=st.sampled_from(["training", "labelled"]),
    per_class=st.integers(1, 3),
)
def test_copies_are_on_one_side_and_named_labels_stay_in_training(tmp_path_factory, copies, source, per_class):
    copies = {copy: of for copy, of in copies.items() if of not in copies}  # no copy of a copy
    whole = Given([12, 18], copies=copies)
    labelled = LabelledSubset(LabelsConfig(per_class=4), DATA, whole)
    training, held_out, choice = parts(whole, ValidationConfig(images=source, per_class=per_class), labelled)
    try:
        made = make(tmp_path_factory.mktemp("r"), whole, training, held_out, choice, labelled)
    except UserError as error:
        if "would be kept out" not in str(error):  # copies left a class without images
            raise
        return
    kept, out = (content(artifact) for artifact in made[1:3])
    assert len(kept) + len(out) == 30
    groups = [{copies.get(int(key), int(key)) for key in part} for part in (kept, out)]
    assert not groups[0] & groups[1]
    assert ChoiceFacts.read(made[3]).images == len(out)
    if source == "training":
        assert {image.key for image in read_labelled(made[4])} <= kept.keys()


@given(
    counts=st.lists(st.integers(3, 14), min_size=1, max_size=4).filter(lambda counts: sum(counts) >= 18),
    unusable=st.sets(st.integers(0, 6), max_size=2),
    share=st.floats(0.05, 0.7),
)
def test_the_parts_are_disjoint_and_together_the_whole(tmp_path_factory, counts, unusable, share):
    whole = Given(counts, sorted(unusable))
    training, held_out, _ = parts(whole, ValidationConfig(images="training", share=share))
    everything, kept, out = map(content, make(tmp_path_factory.mktemp("r"), whole, training, held_out))
    assert not kept.keys() & out.keys()
    assert kept | out == everything
    for label in range(CLASSES):
        members = sum(true == label for true in everything.values())
        assert sum(true == label for true in out.values()) == max(1, round(share * members))


def test_a_smaller_set_is_contained_in_a_larger_one_and_a_seed_draws_another(tmp_path):
    whole = Given([30, 30])
    sets = [
        set(content(make(tmp_path, parts(whole, ValidationConfig(images="training", per_class=n, seed=seed))[1])[0]))
        for n, seed in ((3, 0), (7, 0), (7, 1))
    ]
    assert sets[0] < sets[1]
    assert len(sets[1]) == 7 * CLASSES
    assert sets[1] != sets[2]


def test_labelled_images_are_drawn_from_what_is_left(tmp_path):
    whole = Given([20, 25])
    training, held_out, _ = parts(whole, ValidationConfig(images="training", share=0.4))
    for seed in range(5):
        labelled = LabelledSubset(LabelsConfig(per_class=4, seed=seed), DATA, training)
        out, chosen = make(tmp_path, held_out, labelled)
        assert not {image.key for image in read_labelled(chosen)} & content(out).keys()


def test_named_labelled_images_are_spared(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"{n:04d}" for n in range(12)))
    whole = Given([20, 10])
    labelled = LabelledSubset(LabelsConfig(file=str(names)), DATA, whole, Inputs().label_list(str(names)))
    _, held_out, _ = parts(whole, ValidationConfig(images="training", share=0.9), labelled)
    (out,) = make(tmp_path / "r", held_out)
    assert not content(out).keys() & set(names.read_text().split())


def test_a_table_may_correct_labels_and_the_share_is_of_those_in_the_data(tmp_path):
    table = tmp_path / "labels.csv"
    others = [*range(0, 12, 3), *range(1, 3)]  # four images of class 0, called 2 in the table, and one of each other
    table.write_text("file,label\n" + "\n".join(f"{n:04d},{2 if n in range(0, 9, 3) else n % 3}" for n in others))
    whole = Given([30])  # ten of each class
    labelled = LabelledSubset(LabelsConfig(file=str(table)), DATA, whole, Inputs().label_list(str(table)))
    _, held_out, choice = parts(whole, ValidationConfig(images="training", share=0.5), labelled)
    out, chosen = make(tmp_path / "r", held_out, choice)
    assert np.bincount([*content(out).values()]).tolist() == [3, 4, 4]  # halves of 6, 9 and 9
    assert ChoiceFacts.read(chosen).of == 24


def test_a_carve_out_of_the_labelled_images_leaves_the_rest_to_train_on(tmp_path):
    whole = Given([20, 25])
    labelled = LabelledSubset(LabelsConfig(per_class=4), DATA, whole)
    training, held_out, _ = parts(whole, ValidationConfig(images="labelled", share=0.25), labelled)
    rest = LabelledRest(labelled, training)
    all_labelled, kept, out, left = make(tmp_path, labelled, training, held_out, rest)
    everything = {image.key: image.label for image in read_labelled(all_labelled)}
    left_images = read_labelled(left)
    assert {image.key for image in left_images} | content(out).keys() == everything.keys()
    assert len(content(out)) == CLASSES
    assert not content(out).keys() & content(kept).keys()  # not among the unlabelled images either
    index = read_index(kept.url)
    for image in left_images:  # places are those in the training part
        sample = read_shard_samples(index.shards[image.shard])[image.row]
        assert (sample.key, sample.label("")) == (image.key, everything[image.key])


def test_one_label_a_class_is_too_few_to_carve_from(tmp_path):
    whole = Given([20])
    labelled = LabelledSubset(LabelsConfig(per_class=1), DATA, whole)
    _, held_out, _ = parts(whole, ValidationConfig(images="labelled"), labelled)
    with pytest.raises(UserError, match=r"leaves none; use validation\.images: training"):
        make(tmp_path, held_out)


def test_validation_images_do_not_depend_on_which_ones_are_labelled():
    whole = Given([20])
    config = ValidationConfig(images="training")
    assert parts(whole, config)[1].fingerprint == parts(whole, config)[1].fingerprint
    other = ValidationConfig(images="training", seed=1)
    assert parts(whole, config)[1].fingerprint != parts(whole, other)[1].fingerprint
