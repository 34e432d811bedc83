"""The end of a finished run in its folder: addresses of its artifacts, its settings and its report."""

from dataclasses import dataclass

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import UserError, expecting

STEPS_FILE = "steps.json"
RUN_FILE, REPORT_FILE, SETTINGS_FILE, SAMPLES_FILE = "run.json", "report.html", "config.yaml", "samples.png"
FORMAT = 2

_IDS_OF_FORMAT_1 = {
    "train data": "train_data",
    "test data": "test_data",
    "overlap of the splits": "overlap",
    "labelled subset": "labelled",
    "stage 1 classifier": "classifier",
    "pseudo-labels": "pseudo_labels",
    "stage 2 generator": "generator",
    "pseudo images": "pseudo_images",
    "stage 3 classifier": "retrained",
    "evaluation": "evaluation",
}
"""Format 1 names artifacts by the titles that steps had then, format 2 by the fields of `DualPseudoTraining`."""


@dataclass(frozen=True, kw_only=True)
class RunDocument(Record):
    """The content of `run.json`.

    Attributes:
        format: version of this form.
        artifacts: for each step's id the address of its artifact, `<step>/<fingerprint>`.
        settings: hash of the run's settings.
    """

    format: int = FORMAT
    artifacts: dict[str, str]
    settings: str


def read_addresses(folder: str) -> dict[str, str]:
    """Return the artifacts of a finished run: for each id, `<step>/<fingerprint>`.

    Raises:
        UserError: `run.json` is missing, damaged, or of a format that this version does not read.
    """
    place = stores.join(folder, RUN_FILE)
    document = stores.read_json(place)
    with expecting("a run's list of artifacts", place):
        written = int(document.get("format", 1))
        addresses = {str(id): str(address) for id, address in document["artifacts"].items()}
    if written > FORMAT:
        raise UserError(
            f"has format {written}; this version reads formats up to {FORMAT}",
            where=place,
            fix="use the version of dpt_ray that wrote it",
        )
    if written == 1:
        return {_IDS_OF_FORMAT_1.get(title, title): address for title, address in addresses.items()}
    return addresses
