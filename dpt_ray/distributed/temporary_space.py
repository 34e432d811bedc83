"""Whether the disk has space for what Ray keeps in its temporary folder: logs, sockets and spilled objects.

With a full disk there, Ray does not start and says only that one of its processes ended.
"""

import os
import shutil
import tempfile

from dpt_ray.data.storage.faults import storage_fault
from dpt_ray.errors import UserError

LEAST_BYTES = 32 * 2**20
"""Free space that a job's logs and sockets take, and some more."""


def check_temporary_space() -> None:
    """Refuse to start Ray where its temporary folder has no room.

    Raises:
        UserError: it says which folder.
    """
    folder = os.environ.get("RAY_TMPDIR") or _usual_folder()
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        if fault := storage_fault(error):
            raise fault from None
        return  # Ray makes a folder that is not there
    if free < LEAST_BYTES:
        raise UserError(
            f"has {free / 2**20:.1f} MiB left, and Ray's temporary files take {LEAST_BYTES / 2**20:.0f} MiB or more",
            where=folder,
            fix="free some space there, or set RAY_TMPDIR to a folder on another disk",
        )


def _usual_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        fix = "free some space in /tmp, or set RAY_TMPDIR and TMPDIR to a folder on another disk"
        raise UserError(f"no folder for temporary files can be written ({error.strerror})", fix=fix) from None
