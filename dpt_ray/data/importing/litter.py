"""Recognise files that are not data by their names: files of operating systems and programs, and documentation."""

from dpt_ray.data.shards.keys import extension

_FOLDERS = {
    "__macosx",  # zip archives made on macOS
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",  # Synology and QNAP
    "$recycle.bin", "system volume information", "recycler",  # Windows
    "network trash folder", "temporary items", "lost+found", "__pycache__",
}  # fmt: skip
_FILES = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r", "synofile_thumb.db",
    "__meta__.json", "_success",
}  # fmt: skip
_ZONE = ":zone.identifier"
"""Suffix of the file that Linux and macOS show for Windows' mark of a downloaded file."""
_ABOUT = {"readme", "license", "licence", "copying", "notice", "changelog", "citation", "authors"}
_TEXTS = {"", "txt", "md", "rst", "html", "htm", "pdf", "cff", "bib"}

HIDDEN, LITTER, ABOUT = "hidden", "left by a system or a program", "a text about the data"


def why_passed_over(name: str) -> str | None:
    """Return why a file is not data by its path below the data folder; None if it may be data."""
    *folders, last = name.split("/")
    for folder in folders:
        if reason := why_folder_passed_over(folder):
            return reason
    if last.startswith("."):
        return HIDDEN
    if last.casefold() in _FILES or last.casefold().endswith(_ZONE):
        return LITTER
    stem = last.rpartition(".")[0] or last
    return ABOUT if stem.casefold() in _ABOUT and extension(last) in _TEXTS else None


def why_folder_passed_over(folder: str) -> str | None:
    """Return why a folder holds no data by its name; None if it may hold data."""
    if folder.startswith("."):
        return HIDDEN
    return LITTER if folder.casefold() in _FOLDERS else None


def outermost_passed_over(name: str) -> str | None:
    """Return the outermost parent folder of a file that holds no data, with a trailing slash; None if there is none."""
    folders = name.split("/")[:-1]
    for depth, folder in enumerate(folders, start=1):
        if why_folder_passed_over(folder):
            return "/".join(folders[:depth]) + "/"
    return None
