"""The classes of pseudo images, computed from their numbers."""

import pickle

import numpy as np
import pytest

from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.integers import Integers
from dpt_ray.pipeline.artifacts.pseudo_images import RequestedClasses, requested_labels


@pytest.mark.parametrize("classes", [1, 3, 1000])
def test_requested_classes_are_those_of_the_whole_index(classes):
    index = DatasetIndex(tuple(ShardInfo(f"{n}.tar", 1, "0" * 64, 7, number=n) for n in range(4)), (0,) * classes, "s")
    first = 0
    for labels in requested_labels(index):
        rows = Integers(np.array([0, 2, 3, 6]))
        found = RequestedClasses(first, rows, classes)
        assert list(found) == labels[np.asarray(rows)].tolist()
        assert np.array_equal(np.asarray(found), labels[np.asarray(rows)])
        assert found[1:3] == Integers(labels[[2, 3]])
        assert (len(found), found[-1]) == (4, labels[6])
        assert pickle.loads(pickle.dumps(found)) == found
        first += len(labels)


def test_equal_classes_have_one_hash_and_others_differ():
    assert RequestedClasses(0, (0, 3), 3) == RequestedClasses(3, (0, 3), 3)
    assert hash(RequestedClasses(0, (0, 3), 3)) == hash(RequestedClasses(3, (0, 3), 3))
    assert RequestedClasses(0, (0, 3), 3) != RequestedClasses(1, (0, 3), 3)


def test_a_pickle_of_rows_and_their_classes_holds_the_rows_once():
    rows = Integers(np.arange(300, 1300))
    both = pickle.dumps((rows, RequestedClasses(10**8, rows, 1000)))
    assert len(both) < len(pickle.dumps(rows)) + 300
