"""A buffer is used again, and never while an array in it is alive."""

import gc
import math
import threading

import numpy as np
import pytest
import torch

from dpt_ray.data.buffer_pool import LEAST_BYTES, BufferPool

SIZE = 2 * LEAST_BYTES
BYTE = np.dtype(np.uint8)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_a_buffer_is_used_again_once_no_view_of_it_is_left():
    pool = BufferPool()
    array = pool.empty((SIZE,), BYTE)
    place = address(array)
    view = torch.from_numpy(array.reshape(2, -1)[1:])[:, 5:]
    view.fill_(7)
    del array
    gc.collect()
    other = pool.empty((SIZE,), BYTE)
    other.fill(1)
    assert address(other) != place
    assert (view == 7).all()
    del view
    assert address(pool.empty((SIZE,), BYTE)) == place


def test_arrays_have_the_requested_shape_and_type_whatever_the_buffer_held():
    pool = BufferPool()
    for shape, dtype in (((300, 3, 64, 64), np.uint8), ((2**18, 2), np.int64), ((5,), np.float32), ((0, 4), np.uint8)):
        array = pool.empty(shape, np.dtype(dtype))
        array[...] = 3
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.flags.c_contiguous


@pytest.mark.parametrize(("most_excess", "is_used"), [(2.0, False), (math.inf, True)])
def test_a_small_array_takes_a_much_larger_buffer_only_where_that_is_allowed(most_excess, is_used):
    pool = BufferPool(most_excess=most_excess)
    place = address(pool.empty((5 * SIZE,), BYTE))
    assert (address(pool.empty((SIZE,), BYTE)) == place) == is_used


def test_the_number_of_unused_buffers_is_bounded():
    pool = BufferPool(most_spare=3)
    arrays = [pool.empty((SIZE,), BYTE) for _ in range(10)]
    del arrays
    assert len(pool._spare) == 3


def test_a_larger_buffer_replaces_a_smaller_one():
    pool = BufferPool(most_spare=1, most_excess=math.inf)
    pool.empty((SIZE,), BYTE)
    place = address(pool.empty((3 * SIZE,), BYTE))
    assert address(pool.empty((SIZE,), BYTE)) == place


def test_small_arrays_come_from_the_pool_where_that_is_wanted():
    pool = BufferPool(least_bytes=0)
    place = address(pool.empty((100,), BYTE))
    assert address(pool.empty((100,), BYTE)) == place


def test_batches_that_die_in_other_threads_never_share_memory():
    pool, wrong = BufferPool(), []

    def work(number: int) -> None:
        for turn in range(200):
            batch = pool.empty((4, LEAST_BYTES), BYTE)
            batch[:] = (number * 41 + turn) % 251
            if batch.min() != batch.max() or batch[0, 0] != (number * 41 + turn) % 251:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
