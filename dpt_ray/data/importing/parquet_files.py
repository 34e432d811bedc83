"""List the Parquet files that a URL names."""

from dpt_ray.data.importing.file_sets import PARQUET, find_files
from dpt_ray.data.importing.tree import FileEntry

ENDING = PARQUET.ending


def list_parquet(location: str) -> tuple[str, list[FileEntry]]:
    """Return the folder and the files that a URL names: a file, a folder, or a pattern such as `train-*.parquet`.

    Raises:
        UserError: there is no such file, the files are of several splits, or one cannot be opened.
    """
    found = find_files(location, PARQUET)
    return found.folder, found.files
