"""The batch of inference is the largest that fits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.core.fitting_batch import FIRST, MOST, batch_size, largest_fitting


@given(fixed=st.floats(0, 1e9), per_image=st.floats(1, 1e9), budget=st.floats(0, 1e12))
def test_the_found_batch_fits_and_twice_as_many_images_may_not(fixed, per_image, budget):
    tried = []

    def peak_bytes(batch):
        return fixed + per_image * batch

    def noted(batch):
        tried.append(batch)
        return peak_bytes(batch)

    found = largest_fitting(noted, budget)
    assert found & (found - 1) == 0
    assert 1 <= found <= MOST
    if found > 1:
        assert peak_bytes(found) <= budget
    if found < MOST:
        assert 2 * peak_bytes(found) > budget or peak_bytes(2 * found) > budget
    assert all(batch <= FIRST or peak_bytes(batch) <= budget for batch in tried)


def test_a_batch_for_which_memory_is_lacking_is_halved():
    assert largest_fitting(lambda batch: float("inf") if batch > 4 else 1.0, 100.0) == 4


def test_a_single_image_is_tried_where_nothing_fits():
    assert largest_fitting(lambda batch: float("inf"), 100.0) == 1


@pytest.mark.parametrize(("chosen", "expected"), [(None, 7), (3, 3)])
def test_nothing_is_tried_on_a_cpu_or_where_the_batch_is_given(chosen, expected):
    assert batch_size(chosen, 7, pytest.fail, torch.device("cpu")) == expected


def test_nothing_is_tried_on_a_gpu_where_the_batch_is_given():
    assert batch_size(3, 7, pytest.fail, "cuda") == 3
