"""The images that `dpt predict` classifies: files, folders, patterns, lists of paths, and WebDataset shards."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dpt_ray.data.importing.file_sets import is_pattern, match_files, split_location
from dpt_ray.data.importing.litter import why_passed_over
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.data.importing.tree import FileEntry, list_tree
from dpt_ray.data.shards.keys import extension, has_image_name
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.storage import stores
from dpt_ray.errors import StoreFailureError, UserError

IMAGES_A_UNIT = 500
"""Image files that one process classifies before it writes their rows."""
_LIST, _SHARD = "txt", "tar"
_READ_TOGETHER = 16
_FIX = "give image files, folders of them, patterns such as 'scans/*.jpg', lists of paths (*.txt) or shards (*.tar)"


class EncodedImage(NamedTuple):
    """An image before it is decoded.

    Attributes:
        name: its name in the table of predictions.
        data: its encoded bytes; empty if they cannot be read.
        problem: why they cannot be read; None if they can.
    """

    name: str
    data: bytes
    problem: str = ""


class InputFile(NamedTuple):
    """A file of images: one image, or a shard of several.

    Attributes:
        name: its name in the table of predictions.
        url: URL of the file.
        version: size and time of its last change, as far as the store knows them.
    """

    name: str
    url: str
    version: str

    @property
    def is_shard(self) -> bool:
        """Whether it holds several images."""
        return extension(self.url) == _SHARD


def find_inputs(places: Sequence[str]) -> list[InputFile]:
    """Return the files at some places, each once, in the order of the places and sorted within a folder.

    Args:
        places: URLs of image files, shards, folders (with all folders below), patterns, or `*.txt` files with a path a
            line. Paths in a list are relative to the list.

    Raises:
        UserError: a place does not exist, or holds no image.
    """
    found: dict[str, InputFile] = {}
    for place in places:
        for file in _find(place):
            found.setdefault(file.url, file)
    return list(found.values())


def _find(place: str) -> list[InputFile]:
    url = stores.absolute_url(place).rstrip("/")
    _, last = split_location(url)
    if extension(last) == _LIST and not is_pattern(last):
        return _listed(url)
    if not is_pattern(last) and (named := match_files(url)):
        return [_input(named[0], place)]
    if is_pattern(last):
        beside = place.rpartition("/")[0]
        files = [_input(file, stores.join(beside, file["name"])) for file in match_files(url) if _is_read(file)]
        complaint = "matches no image and no shard"
    else:
        files = [_input(file, stores.join(place, file["name"])) for file in list_tree(url) if _is_read(file)]
        complaint = "holds no image and no shard" if stores.exists(url) else "does not exist"
    if not files:
        raise UserError(complaint, where=url, fix=_FIX)
    return files


def _is_read(file: FileEntry) -> bool:
    name = file["name"]
    return not why_passed_over(name) and (has_image_name(name) or extension(name) == _SHARD)


def _input(file: FileEntry, name: str) -> InputFile:
    return InputFile(name, file["url"], f"{file.get('size')} {file.get('changed')}")


def _listed(url: str) -> list[InputFile]:
    folder = split_location(url)[0]
    lines = [line.strip() for line in read_lines(url, "list of images")]
    paths = [line for line in lines if line]
    if not paths:
        raise UserError("lists no image", where=url, fix="write one path a line")
    absolute = ("/", "~")
    places = [path if "://" in path or path.startswith(absolute) else stores.join(folder, path) for path in paths]
    return [InputFile(path, stores.absolute_url(place), "") for path, place in zip(paths, places, strict=True)]


def units_of(files: Sequence[InputFile]) -> list[list[InputFile]]:
    """Return units of work: a shard each, or up to `IMAGES_A_UNIT` image files that follow each other."""
    units: list[list[InputFile]] = []
    for file in files:
        last = units[-1] if units else None
        if last is None or file.is_shard or last[0].is_shard or len(last) == IMAGES_A_UNIT:
            units.append([file])
        else:
            last.append(file)
    return units


def read_images(unit: Sequence[InputFile]) -> Iterator[EncodedImage]:
    """Yield the images of a unit. An image that cannot be read has a `problem`.

    Raises:
        StoreFailureError: the store does not answer.
    """
    if unit[0].is_shard:
        yield from _read_shard(unit[0])
        return
    with ThreadPoolExecutor(_READ_TOGETHER) as pool:
        yield from pool.map(_read_file, unit)


def _read_file(file: InputFile) -> EncodedImage:
    try:
        return EncodedImage(file.name, stores.read_bytes(file.url))
    except StoreFailureError:
        raise
    except UserError as error:
        return EncodedImage(file.name, b"", error.what)


def _read_shard(file: InputFile) -> Iterator[EncodedImage]:
    try:
        samples, skipped = reliable_samples(stores.read_bytes(file.url), file.url)
    except StoreFailureError:
        raise
    except UserError as error:
        yield EncodedImage(file.name, b"", error.what)
        return
    for sample in samples:
        name = f"{file.name}/{sample.key}"
        try:
            yield EncodedImage(name, sample.image_bytes(file.url))
        except UserError as error:
            yield EncodedImage(name, b"", error.what)
    for entry in skipped:
        yield EncodedImage(f"{file.name}/{entry.key}" if entry.key else file.name, b"", entry.reason)
