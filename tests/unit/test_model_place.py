"""A model on the command line: a place, or the name of a run."""

import pytest

from dpt_ray.cli.model_place import model_place
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

RUN = "dpt_results/runs/photos"


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    """Two runs of a name in the folder of results of the present folder."""
    monkeypatch.chdir(tmp_path)
    for id in ("20260101-000000-000", "20260202-000000-000"):
        stores.write_json(f"{RUN}/{id}/started.json", {})
    stores.write_json(f"{RUN}/run.json", {})


def test_a_name_means_the_newest_finished_run_whose_files_lie_in_the_folder_of_the_name():
    assert model_place("photos") == RUN
    assert model_place("photos/") == RUN


def test_the_beginning_of_an_id_is_enough():
    assert model_place("photos/202601").endswith(f"{RUN}/20260101-000000-000")
    with pytest.raises(UserError, match="2 runs begin with 'photos/2026'"):
        model_place("photos/2026")


def test_a_folder_without_a_model_does_not_hide_the_run_of_that_name(tmp_path):
    (tmp_path / "photos").mkdir()
    assert model_place("photos") == RUN


def test_a_place_that_holds_a_model_is_that_model(tmp_path):
    stores.write_json("photos/config.json", {})
    assert model_place("photos") == "photos"


@pytest.mark.parametrize("place", ["s3://bucket/results/runs/photos", "other", "a.onnx", "/", RUN])
def test_any_other_place_stays(place):
    assert model_place(place) == place
