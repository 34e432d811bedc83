"""Pictures of a classifier in training: the matrix that is drawn, and the images that it counts."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_search_judges import FORM, _classifier
from test_validation_split import Given, make

from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards.index import read_index
from dpt_ray.networks.classifier import Classifier
from dpt_ray.pipeline.execution import draw_confusion as drawing
from dpt_ray.report import confusion_picture
from dpt_ray.report.confusion_picture import MAX_CLASSES, _shown, confusion_png


@pytest.fixture
def source(tmp_path):
    (data,) = make(tmp_path, Given([10, 13, 7]))
    shards = read_index(data.url).shards
    labels = [tuple(number % 3 for number in range(shard.samples)) for shard in shards]
    return ImageSource(
        tuple(SourceShard(shard, labels=given) for shard, given in zip(shards, labels, strict=True)), FORM
    )


def test_the_matrix_counts_labelled_images_by_given_and_predicted_class(source, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(confusion_picture, "confusion_png", lambda *drawn_: drawn.append(drawn_) or b"png")
    network = _classifier()
    assert drawing.draw_confusion(network, drawing.few_shards(source), ["a", "b", "c"]) == b"png"
    ((labels, predictions, names, caption),) = drawn
    counts, rows, columns = _shown(labels, predictions, names)
    assert rows == columns == names
    (tmp_path / "n.safetensors").write_bytes(network)
    classifier = Classifier(str(tmp_path / "n.safetensors"))
    expected = np.zeros((3, 3), int)
    for shard in source.shards:
        (block,) = drawing.read_rows(shard, range(shard.num_rows), FORM, drawing.new_arrays(FORM, 99))
        predicted = classifier(torch.from_numpy(block["image"]))[0].argmax(1)
        np.add.at(expected, (block["label"], predicted.numpy()), 1)
    np.testing.assert_array_equal(counts, expected)
    assert (list(names), caption) == (["a", "b", "c"], "30 of the labelled training images")


def test_few_images_of_few_shards_are_read(source, monkeypatch):
    monkeypatch.setattr(drawing, "MAX_SHARDS", 2)
    monkeypatch.setattr(drawing, "MAX_IMAGES", 8)
    empty = replace(source.shards[0], rows=(), labels=())
    few = drawing.few_shards(replace(source, shards=(empty, *source.shards)))
    assert few.shards == (source.shards[0], source.shards[2])
    images, labels = drawing._sample(few)
    assert images.shape == (8, 1, 8, 8)
    assert labels.tolist() == [0, 0, 0, 0, 0, 2, 1, 0]  # rows 0, 3, 6, 9 and 0, 2, 4, 6


def test_a_picture_of_many_classes_shows_those_with_most_mistakes():
    classes = MAX_CLASSES + 5
    labels = np.repeat(np.arange(classes), 5)
    predicted = labels.copy()
    predicted[15::5] = 0  # one image of each class but the first three is taken for the first one
    drawn, rows, columns = _shown(
        labels, predicted, [f"class {label} of many words in its name" for label in range(classes)]
    )
    assert len(rows) == MAX_CLASSES
    assert rows[0].startswith("class 3 ")
    assert columns == [*rows, "all others"]
    np.testing.assert_array_equal(drawn.sum(1), 5)
    assert (drawn[:, -1] == 1).all()  # the first class is not shown


@pytest.mark.parametrize("classes", [1, 2, 30, 21_000])
def test_any_number_of_classes_and_any_name_is_drawn(classes):
    generator = np.random.default_rng(classes)
    labels, predicted = generator.integers(0, classes, (2, 500))
    labels = np.maximum(labels, min(1, classes - 1))  # the first class has no image
    png = confusion_png(labels, predicted, [f"$name_{number} \u732b" * 3 for number in range(classes)], "a caption")
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width > 200
        assert np.asarray(picture.convert("L")).min() < 200
