"""The folder of a name, `<root>/runs/<name>/`: a copy of what its newest finished run ended with."""

import datetime

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.pipeline.artifacts.run import REPORT_FILE, RUN_FILE, SAMPLES_FILE, SETTINGS_FILE, STEPS_FILE
from dpt_ray.pipeline.artifacts.run_record import NEWEST_FILE, STARTED_FILE, Newest, run_id
from dpt_ray.pipeline.runs import holds_earlier_run

COPIED = (REPORT_FILE, SAMPLES_FILE, SETTINGS_FILE, STEPS_FILE, RUN_FILE)
"""`run.json` comes last, as in the folder of a run."""


def show_as_newest(folder: str) -> None:
    """Copy the report, settings and list of artifacts of a finished run to the folder of its name.

    A run that was started later and has finished already stays. A run of an earlier version, whose files lie there,
    gets a folder of its own first.

    Args:
        folder: URL of the run's folder.

    Raises:
        UserError: a file cannot be read or written.
    """
    above, _, id = folder.rpartition("/")
    place = stores.join(above, NEWEST_FILE)
    if holds_earlier_run(above):
        move_earlier_run(above)
    if stores.exists(place) and read_document(place, Newest, "the name of the newest run").run > id:
        return
    stores.write_json(place, Newest(run=id).to_json())
    copy_files(folder, above)


def move_earlier_run(above: str) -> None:
    """Copy a run of an earlier version from the folder of its name to a folder of its own."""
    written = stores.changed_at(stores.join(above, RUN_FILE)) or datetime.datetime.fromtimestamp(0, datetime.UTC)
    while stores.exists(stores.join(above, run_id(written), STARTED_FILE)):  # the folder of another run
        written -= datetime.timedelta(milliseconds=1)
    copy_files(above, stores.join(above, run_id(written)))


def copy_files(source: str, destination: str) -> None:
    """Copy the files of a finished run; one that the source lacks is removed from the destination."""
    for name in COPIED:
        if stores.exists(stores.join(source, name)):
            stores.write_bytes(stores.join(destination, name), stores.read_bytes(stores.join(source, name)))
        else:
            stores.remove_tree(stores.join(destination, name))
