"""Which Parquet files a URL stands for."""

from dpt_ray.data.importing.file_sets import PARQUET, find_files
from dpt_ray.data.importing.tree import FileEntry

ENDING = PARQUET.ending


def list_parquet(location: str) -> tuple[str, list[FileEntry]]:
    """Return the folder and the tables that a URL stands for: a file, a folder, or a pattern such as `train-*.parquet`.

    Raises:
        UserError: there are none, those of several splits, or one that cannot be opened.
    """
    found = find_files(location, PARQUET)
    return found.folder, found.files
