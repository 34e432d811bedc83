"""Reference statistics in the form of the ADM evaluator are read; everything else is refused in a line."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from peak_memory import at_most_mib

from dpt_ray.core.metrics.frechet import GaussianMoments, gaussian_distance
from dpt_ray.errors import UserError
from dpt_ray.networks.reference_statistics import find_reference, read_reference


def statistics(size: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    features = np.random.default_rng(seed).normal(size=(50, size))
    return {"mu": features.mean(0), "sigma": np.cov(features.T)}


def test_means_and_covariances_are_read_and_images_beside_them_are_not(tmp_path):
    pooled, spatial = statistics(), statistics(3, seed=1)
    images = np.zeros((10, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "r.npz", arr_0=images, **pooled, mu_s=spatial["mu"], sigma_s=spatial["sigma"])
    found = find_reference(str(tmp_path / "r.npz"))
    assert found.name == "r.npz"
    read = read_reference(found)
    np.testing.assert_array_equal(read.pooled.covariance.numpy(), pooled["sigma"])
    assert read.spatial is not None
    np.testing.assert_array_equal(read.spatial.mean.numpy(), spatial["mu"])
    np.savez(tmp_path / "r.npz", **{name: value.astype(np.float32) for name, value in pooled.items()})
    assert read_reference(find_reference(str(tmp_path / "r.npz"))).spatial is None


def test_the_distance_to_the_statistics_of_a_set_is_that_to_the_set(tmp_path):
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).double()
    np.savez(tmp_path / "r.npz", mu=features.mean(0).numpy(), sigma=np.cov(features.numpy().T))
    reference = read_reference(find_reference(str(tmp_path / "r.npz"))).pooled
    moments = GaussianMoments(5)
    moments.update(features)
    assert gaussian_distance(reference, moments.gaussian()) == pytest.approx(0, abs=1e-9)
    moved = GaussianMoments(5)
    moved.update(features + 2)
    assert gaussian_distance(reference, moved.gaussian()) == pytest.approx(5 * 4, rel=1e-9)


class Mark:
    """Shows whether it was unpickled."""

    made = False

    def __reduce__(self):
        return _set_mark, ()


def _set_mark() -> None:
    Mark.made = True


def _bomb() -> bytes:
    """An array whose header claims 8 TB, of which there are no bytes."""
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    return array.getvalue()


def test_other_files_are_refused_and_nothing_is_unpickled(tmp_path):
    good = statistics()
    objects = np.array([Mark()], dtype=object)
    contents = {
        "no sigma": {"mu": good["mu"]},
        "other sizes": {"mu": good["mu"][:3], "sigma": good["sigma"]},
        "integers": {"mu": np.zeros(4, int), "sigma": good["sigma"]},
        "not finite": {"mu": good["mu"] * np.nan, "sigma": good["sigma"]},
        "objects": {"mu": objects, "sigma": good["sigma"]},
    }
    place = tmp_path / "r.npz"
    for arrays in contents.values():
        np.savez(place, **arrays)
        refused(str(place))
    for content in (b"", b"PK", pickle.dumps(Mark())):
        place.write_bytes(content)
        refused(str(place))
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("mu.npy", _bomb())
        archive.writestr("sigma.npy", _bomb())
    with at_most_mib(200):
        refused(str(place))
    assert not Mark.made
    with pytest.raises(UserError, match="no such file"):
        find_reference(str(tmp_path / "absent.npz"))


def refused(place: str) -> None:
    with pytest.raises(UserError, match="holds no reference statistics") as caught:
        read_reference(find_reference(place))
    assert "\n" not in str(caught.value)
