"""Memory is used again, and never while anybody can still see it."""

import gc
import threading

import numpy as np
import torch

from dpt_ray.data.loading.buffer_pool import LEAST_BYTES, Rooms

SIZE = 2 * LEAST_BYTES
BYTE = np.dtype(np.uint8)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_serves_again_once_no_view_of_it_is_left():
    rooms = Rooms()
    array = rooms.empty((SIZE,), BYTE)
    place = address(array)
    view = torch.from_numpy(array.reshape(2, -1)[1:])[:, 5:]
    view.fill_(7)
    del array
    gc.collect()
    other = rooms.empty((SIZE,), BYTE)
    other.fill(1)
    assert address(other) != place
    assert (view == 7).all()
    del view
    assert address(rooms.empty((SIZE,), BYTE)) == place


def test_arrays_have_the_shape_and_type_that_is_asked_for_whatever_lay_there():
    rooms = Rooms()
    for shape, dtype in (((300, 3, 64, 64), np.uint8), ((2**18, 2), np.int64), ((5,), np.float32), ((0, 4), np.uint8)):
        array = rooms.empty(shape, np.dtype(dtype))
        array[...] = 3
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.flags.c_contiguous


def test_a_much_larger_piece_is_not_spent_on_a_small_array():
    rooms = Rooms()
    place = address(rooms.empty((5 * SIZE,), BYTE))
    assert address(rooms.empty((SIZE,), BYTE)) != place


def test_what_lies_unused_is_bounded():
    rooms = Rooms(most_spare=3)
    arrays = [rooms.empty((SIZE,), BYTE) for _ in range(10)]
    del arrays
    assert len(rooms._spare) == 3


def test_batches_that_die_in_other_threads_never_share_memory():
    rooms, wrong = Rooms(), []

    def work(number: int) -> None:
        for turn in range(200):
            batch = rooms.empty((4, LEAST_BYTES), BYTE)
            batch[:] = (number * 41 + turn) % 251
            if batch.min() != batch.max() or batch[0, 0] != (number * 41 + turn) % 251:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
