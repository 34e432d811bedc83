"""Which Parquet files a URL stands for."""

import fnmatch

from dpt_ray.data import stores
from dpt_ray.data.importing.class_folders import SPLIT_NAMES
from dpt_ray.data.importing.tree import FileEntry
from dpt_ray.errors import UserError

ENDING = ".parquet"


def list_parquet(location: str) -> tuple[str, list[FileEntry]]:
    """Return the folder and the tables that a URL stands for: a file, a folder, or a pattern such as `train-*.parquet`.

    Raises:
        UserError: there are none, or those of several splits.
    """
    folder, _, last = location.rstrip("/").rpartition("/")
    if "*" in last or last.lower().endswith(ENDING):
        files = [file for file in stores.list_files(folder) if fnmatch.fnmatchcase(file["name"], last)]
        if not files and "*" not in last and not stores.list_files(location):
            raise UserError("does not exist", where=location, fix="give a Parquet file, or a folder of them")
        if files:
            return folder, files
    files = [file for file in stores.list_files(location) if file["name"].lower().endswith(ENDING)]
    if not files:
        raise UserError(f"holds no Parquet files (*{ENDING})", where=location)
    splits = {file["name"].partition("-")[0] for file in files}
    if len(splits) > 1 and splits <= SPLIT_NAMES:
        raise UserError(
            f"holds Parquet files of several splits ({', '.join(sorted(splits))})",
            where=location,
            fix=f"name one of them, such as {stores.join(location, min(splits))}-*{ENDING}",
        )
    return location, files
