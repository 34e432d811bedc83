"""Checks the disk space for Ray's temporary folder, which holds logs, sockets and spilled objects.

On a full disk Ray does not start, and reports only that one of its processes ended.
"""

import os
import shutil
import tempfile

from dpt_ray.data.storage.faults import storage_fault
from dpt_ray.errors import UserError

LEAST_BYTES = 32 * 2**20
"""Free space that a job's logs and sockets need, with a margin."""


def check_temporary_space() -> None:
    """Check that Ray's temporary folder has enough space.

    Raises:
        UserError: it has not, or the disk fails.
    """
    folder = os.environ.get("RAY_TMPDIR") or _usual_folder()
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        if fault := storage_fault(error):
            raise fault from None
        return  # the folder does not exist yet; Ray makes it
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
