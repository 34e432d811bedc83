"""Partial results of groups of shards: what the driver merges is what it would compute of all images at once."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given as examples
from hypothesis import strategies as st

from dpt_ray.benchmark.scale_data import SyntheticSet
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig, LabelsConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.core.metrics.calibration import reliability
from dpt_ray.core.metrics.classification import accuracy
from dpt_ray.core.seeds import derive_seed, derive_seeds
from dpt_ray.data.images.perceptual_hash import ImageHashes
from dpt_ray.data.shards.duplicates import DuplicateSearch, limits_for
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo, few_or_many, read_index
from dpt_ray.data.shards.integers import Integers
from dpt_ray.data.shards.label_choice import ListedImages
from dpt_ray.data.shards.label_counts import encode_counts
from dpt_ray.data.shards.sidecar_urls import label_sidecars, numbered_sidecars, sidecars_where
from dpt_ray.data.shards.sidecars import decode_sidecar, encode_sidecar
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.evaluation import (
    EvaluationMetrics,
    read_confidence,
    read_metrics,
    read_predicted,
    read_true_labels,
)
from dpt_ray.pipeline.artifacts.labelled import AllImages, read_labelled, write_labelled
from dpt_ray.pipeline.artifacts.predictions import (
    PredictedShard,
    prediction_sidecars,
    read_predictions,
    summarise_predictions,
)
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution import draw_candidates as drawing
from dpt_ray.pipeline.execution import draw_many, repeated_images, shard_groups
from dpt_ray.pipeline.execution.compare_groups import ToCompare, compare_predictions
from dpt_ray.pipeline.execution.mixing import mix
from dpt_ray.pipeline.execution.overlap_groups import find_pairs
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.steps.evaluate import Evaluation
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.validation import DataPart, LabelledRest, ValidationChoice


@pytest.fixture
def in_groups(monkeypatch):
    """Make groups of two shards, and run their units in this process instead of on Ray."""
    monkeypatch.setattr(shard_groups, "LEAST_SHARDS", 2)
    monkeypatch.setattr(shard_groups, "inference_resources", lambda cluster: None)

    def run(worker_class, settings, units, *, resources, progress):
        files = []
        for unit in units:
            worker = worker_class(**settings)
            content = worker.make(unit)
            stores.write_bytes(worker.output_url(unit), content)
            files.append({"url": worker.output_url(unit), **worker.facts(unit, content)})
        return files

    monkeypatch.setattr(shard_groups, "run_units", run)


def context_of(folder, **parents) -> StepContext:
    return StepContext(str(folder), parents, ClusterConfig(), "test", TOLERATE_NOTHING)


class Nothing(Step):
    name = "nothing"
    settings = {}  # noqa: RUF012

    def make(self, context):
        raise NotImplementedError


def given() -> Nothing:
    return Nothing("nothing", {})


def test_groups_hold_every_shard_once_and_their_number_is_bounded():
    assert shard_groups.shard_groups([]) == []
    for shards in (1, 64, 65, 1000, 10**5):
        counts = [1 + shard % 3 for shard in range(shards)]
        rows = {shard: np.array([shard % 7]) for shard in range(0, shards, 5)}
        groups = shard_groups.shard_groups(counts, rows)
        assert [position for group in groups for position in group.positions] == list(range(shards))
        assert len(groups) <= shard_groups.MOST_GROUPS
        assert {shard: found.tolist() for group in groups for shard, found in group.rows.items()} == {
            shard: found.tolist() for shard, found in rows.items()
        }
        first = 0
        for group in groups:
            assert group.first == first
            for position in group.positions:
                assert group.images_of(position) == range(first, first + counts[position])
                first += counts[position]


def test_what_a_worker_is_sent_does_not_grow_with_the_shards():
    """1e5 shards, one of which is left out; a group also holds the lengths of its own shards."""
    sidecars = numbered_sidecars("s3://bucket/labels", [number for number in range(100_001) if number != 7])
    predicted = sidecars_where("s3://bucket/predicted", [number != 9 for number in range(100_000)])
    assert len(pickle.dumps(ToCompare((predicted, predicted), 1000, true=sidecars))) < 2000
    groups = shard_groups.shard_groups([1000] * 100_000)
    assert max(len(pickle.dumps(group)) for group in groups) < 2000


def test_seeds_of_many_texts_are_those_of_each():
    texts = ["", "a", "b/ü", "x" * 300]
    assert derive_seeds(("labelled", 7), texts).tolist() == [derive_seed("labelled", 7, text) for text in texts]
    assert derive_seeds((), ["a"]).tolist() == [derive_seed("a")]


@pytest.mark.parametrize("fraction", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("classes", [3, 40])
def test_the_drawn_images_are_those_of_smallest_hash_of_all(tmp_path, in_groups, fraction, classes):
    """Compared with a sort of all images, which is the definition."""
    data = SyntheticSet(tmp_path, "train", 1500, classes, 300).data()
    step = LabelledSubset(LabelsConfig(fraction=fraction, seed=5), DataConfig(num_classes=classes), given())
    made = tmp_path / "made"
    facts = step.make(context_of(made, images=data))
    index = read_index(data.url)
    wanted = []
    for label in range(classes):
        members = [image for image in AllImages(index) if image.label == label]
        members.sort(key=lambda image: (derive_seed("labelled", 5, image.key), image.key))
        wanted += members[: max(1, round(fraction * len(members)))]
    found = read_labelled(Artifact(str(made), {}))
    assert found == sorted(wanted, key=lambda image: (image.shard, image.row))
    assert facts.images == len(wanted)
    assert not (made / "parts").exists()


def test_a_draw_that_found_too_few_is_made_again_with_all_images(tmp_path, in_groups, monkeypatch):
    data = SyntheticSet(tmp_path, "train", 600, 2, 100).data()
    index = read_index(data.url)
    wanted = drawing.draw_candidates(context_of(tmp_path / "a"), index, ("draw", 0), [9, 9], index.class_counts)
    monkeypatch.setattr(drawing, "draw_limits", lambda counts, available: np.array([2**40, 2**62]))
    again = drawing.draw_candidates(context_of(tmp_path / "b"), index, ("draw", 0), [9, 9], index.class_counts)
    assert (again.labels == 0).sum() == 300
    assert (wanted.labels == 0).sum() < 150


@pytest.mark.parametrize("together", [1, 2**21], ids=["class by class", "all together"])
@pytest.mark.parametrize("share", [0.2, 0.9, 1.0])
def test_many_drawn_images_are_those_of_smallest_hash(tmp_path, in_groups, monkeypatch, share, together):
    monkeypatch.setattr(draw_many, "SORTED_TOGETHER", together)
    index = read_index(SyntheticSet(tmp_path, "train", 3000, 2, 300).data().url)
    spared = {3: np.array([0, 7, 299])}
    available = [count - number for count, number in zip(index.class_counts, (1, 2), strict=True)]
    counts = [round(share * available[0]), 5]
    drawn = draw_many.draw_many(context_of(tmp_path), index, ("draw", 3), counts, available, spared)
    images = [image for image in AllImages(index) if image.row not in spared.get(image.shard, ())]
    for label, count in enumerate(counts):
        members = [image for image in images if image.label == label]
        members.sort(key=lambda image: derive_seed("draw", 3, image.key))
        wanted = {300 * image.shard + image.row for image in members[:count]}
        assert wanted == {number for number in np.flatnonzero(drawn).tolist() if number % 2 == label}


def test_a_wrong_floor_is_noticed_and_the_draw_made_again(tmp_path, in_groups, monkeypatch):
    index = read_index(SyntheticSet(tmp_path, "train", 600, 2, 100).data().url)
    arguments = index, ("draw", 0), [9, 200], index.class_counts
    right = draw_many.draw_many(context_of(tmp_path / "a"), *arguments)
    monkeypatch.setattr(draw_many, "draw_floors", lambda counts, available: np.array([2**62, 2**61]))
    monkeypatch.setattr(draw_many, "draw_limits", lambda counts, available: np.array([2**62, 2**61]))
    again = draw_many.draw_many(context_of(tmp_path / "b"), *arguments)
    assert right.sum() == 209
    assert again.tolist() == right.tolist()


def test_limits_hold_little_more_than_what_is_wanted():
    limits = drawing.draw_limits([10**6, 5, 0, 7], [10**8, 4, 10, 10**4])
    assert limits[0] / 2**63 == pytest.approx(0.01, rel=0.02)
    assert limits[1] == 2**63 - 1
    assert limits[2] == -1
    assert 7e-4 < limits[3] / 2**63 < 1e-2


def test_the_list_of_labelled_images_is_json_as_ever(tmp_path):
    data = SyntheticSet(tmp_path, 'tra"in\u00fc', 40, 2, 20).data()
    images = list(AllImages(read_index(data.url)))[:3]
    write_labelled(str(tmp_path / "a"), images[::-1])
    entries = [[image.shard, image.row, image.key, image.label] for image in images]
    assert (tmp_path / "a" / "labelled.json").read_bytes() == stores.json_bytes(entries)
    write_labelled(str(tmp_path / "b"), [])
    assert json.loads((tmp_path / "b" / "labelled.json").read_text()) == []


def test_sidecars_are_found_without_a_text_for_each(tmp_path):
    for numbers in ([0, 1, 2], [1, 2, 5, 6, 9], [3], []):
        urls = numbered_sidecars("memory://x", numbers)
        assert [urls[position] for position in range(len(urls))] == [f"memory://x/{n:05d}.parquet" for n in numbers]
    made = [True, False, False, True]
    urls = sidecars_where("memory://x", made)
    assert [urls[position] is not None for position in range(4)] == made
    assert urls[3] == "memory://x/00003.parquet"
    index = read_index(SyntheticSet(tmp_path, "train", 40, 2, 20).data().url)
    assert [label_sidecars(index)[position] for position in range(2)] == list(map(index.label_sidecar, range(2)))


def test_a_class_with_too_few_images_is_named(tmp_path):
    data = SyntheticSet(tmp_path, "train", 40, 7, 20).data()
    step = LabelledSubset(LabelsConfig(per_class=6), DataConfig(num_classes=7), given())
    with pytest.raises(UserError, match="6 labelled images of class '5' are requested, and it has 5"):
        step.make(context_of(tmp_path / "made", images=data))


def evaluated(folder, train, test, labelled) -> EvaluationMetrics:
    """The metrics of an evaluation of a synthetic run."""
    roles = ("train_data", "test_data", "labelled", "pseudo_labels", "stage1", "stage3", "pseudo_images")
    step = Evaluation(**dict.fromkeys(roles, given()))
    predicted, held_out = train.predictions(), test.predictions()
    parents = (train.data(), test.data(), labelled, predicted, held_out, held_out, predicted)
    step.make(context_of(folder, **dict(zip(roles, parents, strict=True))))
    return read_metrics(Artifact(str(folder), {}))


def test_an_evaluation_by_groups_is_that_of_all_images(tmp_path, in_groups):
    """Compared with the definitions, on all images at once."""
    train, test = SyntheticSet(tmp_path, "train", 700, 6, 100), SyntheticSet(tmp_path, "test", 500, 6, 100)
    index = read_index(train.data().url)
    write_labelled(str(tmp_path / "labelled"), list(AllImages(index))[250:650:7])
    labelled = Artifact(str(tmp_path / "labelled"), {})
    found = evaluated(tmp_path / "made", train, test, labelled)
    keys, true = read_true_labels(index)
    chosen = {image.key for image in read_labelled(labelled)}
    others = torch.tensor([key not in chosen for shard in keys for key in shard])
    seen, confidence = read_predicted(train.predictions())[others], read_confidence(train.predictions())[others]
    true = true[others]
    assert found.pseudo_label_accuracy == accuracy(true, seen)
    bins = reliability(confidence, true == seen)
    assert [bin.images for bin in found.reliability] == [bin.images for bin in bins]
    assert [bin.confidence for bin in found.reliability] == pytest.approx([bin.confidence for bin in bins])
    for label in range(6):
        assert found.per_class.pseudo_label_recall[label] == pytest.approx(
            float((seen[true == label] == label).float().mean())
        )
        assert found.per_class.pseudo_label_precision[label] == pytest.approx(
            float((true[seen == label] == label).float().mean())
        )
    _, held_out = read_true_labels(read_index(test.data().url))
    predicted = read_predicted(test.predictions())
    assert found.stage3_accuracy == accuracy(held_out, predicted)
    assert found.confusion is not None
    assert sum(pair.images for pair in found.confusion.stage1) == len(held_out)
    for pair in found.confusion.stage1:
        assert pair.images == int(((held_out == pair.true) & (predicted == pair.predicted)).sum())
    top = np.concatenate([sidecar["top_classes"] for sidecar in read_predictions(test.predictions(), "top_classes")])
    assert found.stage1_top5_accuracy == pytest.approx((held_out.numpy()[:, None] == top).any(1).mean())
    assert found.stage3_change is not None
    assert (found.stage3_change.mended, found.stage3_change.broken) == (0, 0)
    every = torch.arange(700) % 6
    assert found.pseudo_image_agreement == accuracy(every, read_predicted(train.predictions()))


def test_two_classifiers_are_compared_on_images_that_both_could_read(tmp_path, in_groups):
    test = SyntheticSet(tmp_path, "test", 500, 2, 100)
    index, first = read_index(test.data().url), prediction_sidecars(test.predictions())
    counts, true = [100] * 5, label_sidecars(index)
    renamed = numbered_sidecars(first.folder, [0, 1, 2, 4, 5])
    with pytest.raises(UserError, match=r"00004\.parquet: does not list the images"):
        compare_predictions(context_of(tmp_path / "a"), ToCompare((first, renamed), 2, true=true), counts, "parts")
    second = sidecars_where(first.folder, [True, False, True, False, True])
    what, left_out = ToCompare((first, second), 2, true=true), {4: np.arange(90)}
    compared = compare_predictions(context_of(tmp_path / "b"), what, counts, "parts", left_out)
    assert [counted.images for counted in compared.counts] == [210, 210]


def test_the_search_for_copies_by_groups_is_that_of_all_shards(tmp_path, in_groups, monkeypatch):
    """Some test images are training images, or nearly; the list is cut where it is too long."""
    train, test = SyntheticSet(tmp_path, "train", 700, 2, 100), SyntheticSet(tmp_path, "test", 200, 2, 100)
    whole, held = read_index(train.data().url), read_index(test.data().url)
    copied = decode_sidecar(stores.read_bytes(whole.label_sidecar(4)), "x")
    copied["pixel_hash"][50:] ^= np.uint64(1)  # the others are copies whose pixels differ
    keys = copied.pop("key")
    stores.write_bytes(held.label_sidecar(1), encode_sidecar(keys, copied))
    for most in (1000, 30):
        found = find_pairs(context_of(tmp_path / "made"), whole, held, limits_for(32), most)
        joined = [held.hashes(position) for position in range(2)]
        both = ImageHashes(*(np.concatenate([getattr(h, n) for h in joined]) for n in ("pixels", "perceptual")))
        search = DuplicateSearch(both, limits_for(32), most)
        for position in range(len(whole.shards)):
            search.add(position, whole.hashes(position))
        for mine, right in ((found.exact, search.exact), (found.near, search.near)):
            assert (mine.images, mine.pairs, mine.listed) == (right.images, right.pairs, right.listed)
            assert mine.held.tolist() == right.held.tolist()
        assert (found.exact.pairs, found.near.pairs) == (50, 50)
        assert found.test_not_compared == search.not_compared == 0


def test_predicted_classes_are_counted_without_a_number_for_every_class():
    shards = [
        PredictedShard(images=3, predicted=encode_counts({20_999: 2, 5: 1})),
        PredictedShard(images=0),
        PredictedShard(images=1, predicted=encode_counts({5: 1})),
    ]
    facts = summarise_predictions(shards, 4, 21_000)
    assert (facts.predicted_per_class[5], facts.predicted_per_class[20_999], sum(facts.predicted_per_class)) == (
        2,
        2,
        4,
    )


@examples(values=st.lists(st.integers(0, 2**40), max_size=20))
def test_integers_are_a_sequence_like_a_tuple(values):
    ours = Integers(values)
    assert (list(ours), len(ours), bool(ours)) == (values, len(values), bool(values))
    assert pickle.loads(pickle.dumps(ours)) == ours == Integers(tuple(values))
    assert hash(ours) == hash(Integers(np.array(values, np.int64)))
    assert list(ours[1:3]) == values[1:3]
    assert all(type(value) is int and ours[place] == value for place, value in enumerate(ours))
    assert ours != Integers([*values, 1])
    assert np.asarray(ours, np.int64).tolist() == values


def test_pseudo_images_take_few_bytes_each_and_are_those_that_agree(tmp_path, in_groups):
    data = SyntheticSet(tmp_path, "train", 5000, 1000, 1000)
    index, predictions = read_index(data.data().url), data.predictions()
    write_labelled(str(tmp_path / "labelled"), list(AllImages(index))[:10])
    config = load_config(None, ["preset=digits", "stage3.mixing.only_agreeing=true"])
    parents = {"images": data.data(), "pseudo_images": data.data(), "pseudo_predictions": predictions}
    context = context_of(tmp_path / "made", labelled=Artifact(str(tmp_path / "labelled"), {}), **parents)
    mixed = mix(context, config.stage3, config.data, index)
    seen = read_predicted(predictions).numpy()
    agrees = seen == np.arange(5000) % 1000
    assert mixed.facts.pseudo_images_used_per_class == tuple(np.bincount(seen[agrees], minlength=1000).tolist())
    pseudo = [shard for shard in mixed.sources["labelled"][0].shards if len(shard.rows) > 10]
    used = [1000 * shard.info.number + row for shard in pseudo for row in shard.rows]
    assert used == np.flatnonzero(agrees).tolist()
    assert [label for shard in pseudo for label in shard.labels] == (np.array(used) % 1000).tolist()
    assert len(pickle.dumps(pseudo)) < 5 * len(used)


def with_copies(folder, copies: dict[int, int], per_shard: int = 50, shards: int = 6):
    """A set in which images have the pixels of others, by their numbers."""
    made = SyntheticSet(folder, "train", per_shard * shards, 3, per_shard)
    index = read_index(made.data().url)
    sidecars = [decode_sidecar(stores.read_bytes(url), url) for url in map(index.label_sidecar, range(shards))]
    for copy, of in copies.items():
        sidecars[copy // per_shard]["pixel_hash"][copy % per_shard] = sidecars[of // per_shard]["pixel_hash"][
            of % per_shard
        ]
    for number, sidecar in enumerate(sidecars):
        stores.write_bytes(index.label_sidecar(number), encode_sidecar(sidecar.pop("key"), sidecar))
    return made.data()


@pytest.mark.parametrize("part_images", [10, 90, 10**6])
def test_copies_are_found_in_parts_of_the_range_of_hashes(tmp_path, in_groups, monkeypatch, part_images):
    monkeypatch.setattr(repeated_images, "PART_IMAGES", part_images)
    copies = {7: 3, 120: 3, 299: 40}
    index = read_index(with_copies(tmp_path, copies).url)
    found = repeated_images.find_repeated(context_of(tmp_path / "a"), index, "pixels", "all")
    assert sorted((50 * found.records["shard"] + found.records["row"]).tolist()) == [3, 7, 40, 120, 299]
    assert found.number == 3
    assert repeated_images.check_images(context_of(tmp_path / "b"), index) == 3
    assert not list((tmp_path / "a").iterdir())


def test_a_key_in_two_shards_is_refused_and_both_are_named(tmp_path, in_groups):
    index = read_index(with_copies(tmp_path, {}).url)
    sidecar = decode_sidecar(stores.read_bytes(index.label_sidecar(5)), "x")
    keys = sidecar.pop("key")
    stores.write_bytes(index.label_sidecar(5), encode_sidecar([*keys[:9], "train/000000060", *keys[10:]], sidecar))
    with pytest.raises(UserError, match=r"train-000001.tar: the key 'train/000000060' is also in .*train-000005.tar"):
        repeated_images.check_images(context_of(tmp_path / "a"), index)


@pytest.mark.parametrize("images", ["training", "labelled"])
def test_a_division_by_groups_is_that_of_all_images(tmp_path, in_groups, images):
    """Compared with the definition: the smallest hashes of each class, and their copies."""
    copies = {7: 3, 120: 3, 299: 40, 200: 201}
    data = with_copies(tmp_path, copies)
    everything = list(AllImages(read_index(data.url)))
    write_labelled(str(tmp_path / "labelled"), everything[:90])
    labelled = Artifact(str(tmp_path / "labelled"), {"facts": {"images": 90, "of": 300}})
    choice = ValidationChoice(ValidationConfig(images=images, share=0.3, seed=4), given(), given())
    facts = choice.make(context_of(tmp_path / "choice", images=data, labelled=labelled))
    group = {copy: copies.get(copy, copy) for copy in range(300)}
    spared = (
        {n for n in range(300) if group[n] in {group[m] for m in range(90)}}
        if images == "training"
        else set(range(90, 300))
    )
    held = set()
    for label in range(3):
        members = [n for n in range(300) if n % 3 == label and n not in spared]
        members.sort(key=lambda n: derive_seed("validation", 4, everything[n].key))
        held |= set(members[: round(0.3 * len(members))])
    held = {n for n in range(300) if group[n] in {group[m] for m in held}}
    assert (facts.images, facts.of) == (len(held), 300 - len(spared))
    parts = {}
    for part in ("training", "validation"):
        step = DataPart(part, given(), choice)
        chosen = Artifact(str(tmp_path / "choice"), {})
        made = step.make(context_of(tmp_path / part, images=data, choice=chosen))
        parts[part] = read_index(str(tmp_path / part))
        assert made.images_per_class == parts[part].class_counts
        assert sum(shard.samples + len(shard.skipped) for shard in parts[part].shards) % 50 == 0
    keys = {part: [key for n in range(len(index.shards)) for key in index.keys(n)] for part, index in parts.items()}
    assert keys["validation"] == [everything[n].key for n in sorted(held)]
    assert keys["training"] == [everything[n].key for n in range(300) if n not in held]
    index = parts["training"]
    rest = LabelledRest(given(), DataPart("training", given(), choice))
    rest.make(context_of(tmp_path / "rest", labelled=labelled, images=Artifact(str(tmp_path / "training"), {})))
    left = read_labelled(Artifact(str(tmp_path / "rest"), {}))
    assert [image.key for image in left] == [everything[n].key for n in range(90) if n not in held]
    assert all(index.keys(image.shard)[image.row] == image.key for image in left)


def test_rows_that_are_left_out_take_a_bit_each_in_the_index(tmp_path):
    left_out = np.flatnonzero(np.arange(1000) % 5 == 0)
    few, many = few_or_many(left_out[:3]), few_or_many(left_out)
    shards = tuple(ShardInfo(f"{n}.tar", 1, "0", 800, rows, n) for n, rows in enumerate(((), few, many)))
    whole = DatasetIndex(shards, (1,), "labels")
    content = stores.json_bytes(whole.to_json(str(tmp_path / "a" / "b"), row_bits=True))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "index.json").write_bytes(content)
    assert len(content) < 1000
    read = read_index(str(tmp_path / "a" / "b"))
    assert [list(shard.skipped) for shard in read.shards] == [[], left_out[:3].tolist(), left_out.tolist()]
    assert read.shards[2].skipped == many
    plain = whole.to_json(str(tmp_path / "a" / "b"))["shards"]
    assert plain[2]["skipped"] == left_out.tolist()


LOCATION = "/elsewhere/data/train"


@pytest.mark.parametrize(
    "lines",
    [
        ["000000003", "train/000000250", "# a comment", "data/train/000000404", f"{LOCATION}/train/000000599.png"],
        ["file,label", "000000003,0", "train/000000599,1"],
    ],
)
def test_listed_images_are_found_by_groups_as_among_all(tmp_path, in_groups, monkeypatch, lines):
    data = SyntheticSet(tmp_path, "train", 600, 2, 100).data()
    config = DataConfig(num_classes=2, train=LOCATION)
    step = LabelledSubset(LabelsConfig(file="labelled.csv"), config, given(), lines)
    index = read_index(data.url)
    alone = [image for image, _ in step._choose_listed(index, ListedImages.all(AllImages(index)))]
    read = []
    monkeypatch.setattr(AllImages, "__iter__", lambda self: read.append(1) or iter(()))
    facts = step.make(context_of(tmp_path / "made", images=data))
    found = read_labelled(Artifact(str(tmp_path / "made"), {}))
    assert found == sorted(alone, key=lambda image: (image.shard, image.row))
    assert facts.images == len(found) >= 2
    assert read == []  # no sidecar is read in the driver


def test_a_missing_name_is_compared_with_some_keys(tmp_path, in_groups):
    data = SyntheticSet(tmp_path, "train", 600, 2, 100).data()
    step = LabelledSubset(
        LabelsConfig(file="x.txt"), DataConfig(num_classes=2), given(), ["train/000000003", "train/00000000a"]
    )
    with pytest.raises(
        UserError, match=r"names 'train/00000000a', which the training data lacks.*nearest key is 'train/0000"
    ):
        step.make(context_of(tmp_path / "made", images=data))


def test_labels_and_predictions_of_the_first_shards_are_those_of_all(tmp_path):
    train = SyntheticSet(tmp_path, "train", 100, 3, 20)
    index, predicted = read_index(train.data().url), train.predictions()
    keys, labels = read_true_labels(index)
    first_keys, first_labels = read_true_labels(index, 2)
    assert (first_keys, first_labels.tolist()) == (keys[:2], labels[:40].tolist())
    assert read_predicted(predicted, first_keys, 2).tolist() == read_predicted(predicted)[:40].tolist()
    assert read_confidence(predicted, 2).tolist() == read_confidence(predicted)[:40].tolist()
