"""The list of a run's artifacts: by id, in the format of today and in the first one."""

import json

import pytest
from exported_runs import write_run

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.folder import CONFIG_FILE
from dpt_ray.pipeline.artifacts.run import RUN_FILE, read_addresses
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.export_run import export_classifier, export_generator

TITLES_OF_FORMAT_1 = {
    "classifier": "stage 1 classifier",
    "generator": "stage 2 generator",
    "retrained": "stage 3 classifier",
    "evaluation": "evaluation",
}


def test_a_run_of_the_first_format_gives_the_same_exports(tmp_path):
    run, _ = write_run(tmp_path / "root")
    place = f"{run}/{RUN_FILE}"
    today = stores.read_json(place)
    exported = {"today": _exports(run, tmp_path / "today")}
    first = {TITLES_OF_FORMAT_1[id]: address for id, address in today["artifacts"].items()}
    stores.write_json(place, {"artifacts": first, "settings": today["settings"]})
    assert read_addresses(run) == today["artifacts"]
    exported["first"] = _exports(run, tmp_path / "first")
    assert exported["first"] == exported["today"]


def _exports(run: str, folder) -> list[dict]:
    folders = [
        export_generator(run, str(folder / "generator")),
        export_classifier(run, str(folder / "classifier"), stage=1),
        export_classifier(run, str(folder / "retrained"), stage=3),
    ]
    configs = [json.loads(stores.read_bytes(f"{exported}/{CONFIG_FILE}")) for exported in folders]
    assert all(config["metrics"] for config in configs)
    return configs


def test_ids_are_fields_of_the_method(tmp_path):
    run, _ = write_run(tmp_path / "root")
    assert set(read_addresses(run)) <= set(DualPseudoTraining.__dataclass_fields__)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"format": 3, "artifacts": {}},
            "has format 3; this version reads formats up to 2",
        ),
        ({"format": "new", "artifacts": {}}, "is not a run's list of artifacts"),
        ({"format": 2}, "is not a run's list of artifacts"),
        ({"format": 2, "artifacts": ["a"]}, "is not a run's list of artifacts"),
        ([], "is not a run's list of artifacts"),
        (None, "is not a run's list of artifacts"),
    ],
)
def test_another_document_is_refused_in_one_line(tmp_path, document, expected):
    stores.write_json(str(tmp_path / RUN_FILE), document)
    with pytest.raises(UserError, match=RUN_FILE) as caught:
        read_addresses(str(tmp_path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
