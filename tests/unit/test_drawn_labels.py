"""Labels of stage 2 that are drawn from a classifier's probabilities at every visit."""

import numpy as np
import pytest
import ray.data
import torch
from pydantic import ValidationError

from dpt_ray.config.load import load_config
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.diffusion.denoising_objective import draw_labels
from dpt_ray.core.row_random import RowRandom
from dpt_ray.data.loading.source import IMAGE, LABEL, TOP_CLASSES, TOP_PROBABILITIES
from dpt_ray.distributed.datasource import _to_table
from dpt_ray.errors import UserError
from dpt_ray.pipeline.dpt import build


def make_batch(rows: int, seed: int = 0, confidence: bool = False, chosen: slice = slice(None)) -> ImageBatch:
    """Rows whose classes 7, 2 and 5 have probabilities 0.6, 0.3 and 0 of 0.9 in all."""
    numbers = torch.arange(rows)[chosen]
    probabilities = torch.tensor([0.6, 0.3, 0.0]).expand(len(numbers), 3)
    return ImageBatch(
        images=torch.zeros(len(numbers), 1, 2, 2, dtype=torch.uint8),
        labels=torch.full((len(numbers),), 7),
        index=numbers,
        random=RowRandom([seed * rows + int(number) for number in numbers]),
        confidence=probabilities[:, 0] if confidence else None,
        classes=torch.tensor([7, 2, 5], dtype=torch.int32).expand(len(numbers), 3),
        probabilities=probabilities,
    )


def test_classes_are_drawn_in_proportion_to_their_probabilities():
    labels = draw_labels(make_batch(6000)).labels
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) == {7, 2}
    assert (labels == 7).double().mean().item() == pytest.approx(2 / 3, abs=0.02)


def test_the_confidence_is_that_of_the_drawn_class():
    drawn = draw_labels(make_batch(100, confidence=True))
    torch.testing.assert_close(drawn.confidence, torch.where(drawn.labels == 7, 0.6, 0.3))
    assert draw_labels(make_batch(10)).confidence is None


def test_another_visit_draws_anew_and_a_row_does_not_depend_on_its_batch():
    whole = draw_labels(make_batch(100)).labels
    assert not torch.equal(whole, draw_labels(make_batch(100, seed=1)).labels)
    assert torch.equal(whole[30:50], draw_labels(make_batch(100, chosen=slice(30, 50))).labels)
    halves = [draw_labels(half).labels for half in make_batch(100).split(2)]
    assert torch.equal(whole, torch.cat(halves))


def test_a_certain_class_and_no_probability_at_all_leave_the_most_probable_class():
    for probabilities in ([1.0, 0.0], [0.0, 0.0]):
        batch = make_batch(20)
        given = ImageBatch(
            batch.images, batch.labels, batch.index, batch.random, None,
            torch.tensor([[4, 1]]).expand(20, 2), torch.tensor([probabilities]).expand(20, 2),
        )  # fmt: skip
        assert draw_labels(given).labels.tolist() == [4] * 20


def test_columns_with_several_numbers_pass_through_blocks_of_ray_data():
    views = [
        {IMAGE: np.zeros((n, 1, 2, 2), np.uint8), LABEL: np.arange(n), TOP_CLASSES: np.full((n, 2), n, np.int32),
         TOP_PROBABILITIES: np.full((n, 2), 1 / n, np.float32)}
        for n in (3, 2)
    ]  # fmt: skip
    table = _to_table(np.zeros((5, 1, 2, 2), np.uint8), views)
    columns = ray.data.block.BlockAccessor.for_block(table).to_numpy()
    assert columns[TOP_CLASSES].tolist() == [[3, 3]] * 3 + [[2, 2]] * 2
    assert columns[TOP_PROBABILITIES].dtype == np.float32
    assert columns[IMAGE].shape == (5, 1, 2, 2)


def test_addresses_change_with_the_setting_alone():
    given = ["preset=digits"]
    plain, drawn = (build(load_config(None, [*given, *more])).generator for more in
                    ([], ["stage2.conditioning.labels=drawn"]))  # fmt: skip
    assert plain.address != drawn.address
    assert "labels" not in plain.settings["training"]["conditioning"]


@pytest.mark.parametrize(
    "more", ["stage2.conditioning.true_labels=true", "stage2.conditioning.least_confidence=0.5",
             "pseudo_labels.assignment=balanced"]
)  # fmt: skip
def test_settings_that_would_change_the_labels_otherwise_are_refused(more):
    with pytest.raises((UserError, ValidationError), match="drawn"):
        load_config(None, ["preset=digits", "stage2.conditioning.labels=drawn", more])
