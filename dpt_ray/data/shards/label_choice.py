"""The choice of labelled images: k of every class, a share of every class, or a list of names.

A draw ranks the images of a class by a hash of seed and key. So it does not depend on the order of shards, and for one
seed every larger subset contains every smaller one, as with MSN's published subsets.
"""

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from dpt_ray.data.shards.archive_samples import split_name
from dpt_ray.data.shards.keys import file_key, file_keys, normalise_name
from dpt_ray.data.shards.listed_paths import ListedPaths, plain_path
from dpt_ray.errors import UserError
from dpt_ray.text import shortened


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image whose true label training may use.

    Attributes:
        shard: position of its shard in the index.
        row: its row in the shard.
        key: its key.
        label: its class id.
    """

    shard: int
    row: int
    key: str
    label: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """Images that a draw may choose, as arrays of N values.

    Attributes:
        shards: positions of their shards in the index, int32.
        rows: their rows there, int32.
        labels: their class ids, int32.
        draws: their hashes, int64; the smallest ones of a class are chosen.
        keys: their keys; an empty list where they are not needed.
    """

    shards: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    draws: np.ndarray
    keys: list[str]

    @classmethod
    def joined(cls, parts: "Sequence[Candidates]") -> "Candidates":
        """Return the images of several parts, in order."""

        def whole(name: str, kind: type[np.signedinteger[Any]]) -> np.ndarray:
            return np.concatenate([np.asarray(getattr(part, name), kind) for part in parts] or [np.zeros(0, kind)])

        places = (whole("shards", np.int32), whole("rows", np.int32), whole("labels", np.int32))
        return cls(*places, whole("draws", np.int64), [key for part in parts for key in part.keys])

    def images(self, places: np.ndarray) -> list[LabelledImage]:
        """Return the images at some places of the arrays, int64 (M,)."""
        shards, rows, labels = (values[places].tolist() for values in (self.shards, self.rows, self.labels))
        keys = [self.keys[place] for place in places.tolist()]
        return [LabelledImage(*values) for values in zip(shards, rows, keys, labels, strict=True)]


def draw_smallest(found: Candidates, counts: Sequence[int]) -> np.ndarray:
    """Return the places of the `counts[c]` images of each class c with the smallest hashes, class by class, int64 (M,).

    Equal hashes are ordered by their keys, and without keys by their places.
    """
    order = np.lexsort((found.draws, found.labels))
    draws, labels = found.draws[order], found.labels[order]
    if found.keys and ((draws[1:] == draws[:-1]) & (labels[1:] == labels[:-1])).any():
        order = np.array(
            sorted(range(len(order)), key=lambda n: (int(found.labels[n]), int(found.draws[n]), found.keys[n]))
        )
    sizes = np.bincount(labels, minlength=len(counts))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: np.ndarray = order[rank < np.asarray(counts)[labels]]
    return chosen


def draw_per_class(
    found: Candidates, class_names: Sequence[str], counts: Sequence[int], available: Sequence[int]
) -> list[LabelledImage]:
    """Draw `counts[c]` images of each class c.

    Args:
        found: images among which those are.
        class_names: name of each class.
        counts: images that are wanted of each class.
        available: images of each class.

    Raises:
        UserError: a class has fewer images than requested.
    """
    check_enough(class_names, counts, available)
    return found.images(draw_smallest(found, counts))


def check_enough(class_names: Sequence[str], counts: Sequence[int], available: Sequence[int]) -> None:
    """Check that every class has as many images as are requested; see `draw_per_class`.

    Raises:
        UserError: one has fewer.
    """
    for name, wanted, present in zip(class_names, counts, available, strict=True):
        if not present and wanted:
            raise UserError(
                f"no image of class {name!r}, one of {len(class_names)}",
                where="labels",
                fix="set data.num_classes (or the class names) to the classes of the data, or add images",
            )
        if present < wanted:
            raise UserError(
                f"{wanted} labelled images of class {name!r} are requested, and it has {present}",
                where="labels",
                fix="lower labels.per_class or add images",
            )


@dataclass(frozen=True)
class ListedImages:
    """The images of a data set that a list may name.

    Attributes:
        images: all images, or those with a name of `names_of`.
        folders: paths whose first folders are those of the data set's keys; see `ListedPaths`.
        near: images with whose keys a missing name is compared.
    """

    images: Iterable[LabelledImage]
    folders: Iterable[str]
    near: Iterable[LabelledImage]

    @classmethod
    def all(cls, images: Iterable[LabelledImage]) -> "ListedImages":
        """Return all images, which are gone through several times."""
        return cls(images, (image.key for image in images), images)


def choose_listed(
    images: ListedImages, lines: Sequence[str], where: str, location: str | None = None
) -> list[LabelledImage]:
    """Return the images that `find_listed` finds, each once."""
    found = find_listed(images, lines, where, location).values()
    return list({image.key: image for image in found}.values())


def names_of(lines: Iterable[str], location: str | None) -> set[str]:
    """Return whole keys and last parts of keys, of which an image has one if a line names it.

    Args:
        lines: names or paths; see `find_listed`.
        location: see `find_listed`.
    """
    paths = ListedPaths(location, ())
    return {name for line in lines for path in paths.below(line.strip()) for name in _possible_keys(path)}


def find_listed(
    images: ListedImages, lines: Sequence[str], where: str, location: str | None = None
) -> dict[str, LabelledImage]:
    """Find the images that `lines` name by key or file name (`n04235860_14959.JPEG`).

    Empty lines and comments are ignored. A comment is `#` alone, or starts with `#` and a space. A name may be a path
    in any of the forms of `ListedPaths`.

    Args:
        images: the images.
        lines: the lines of the list.
        where: URL of the list, for messages.
        location: URL of the training images, to which listed paths may be relative or absolute.

    Returns:
        Line without blanks around it -> the image.

    Raises:
        UserError: the list names no image, names a missing one, or has a file name that several images share.
    """
    listed = dict.fromkeys(line for line in map(str.strip, lines) if line and line != "#" and not line.startswith("# "))
    if not listed:
        raise UserError("names no image", where=where)
    paths = ListedPaths(location, images.folders)
    wanted = {line: [_possible_keys(path) for path in paths.below(line)] for line in listed}
    find = _Finder(images.images, {name for ways in wanted.values() for names in ways for name in names})
    chosen: dict[str, LabelledImage] = {}
    missing = []
    for line, ways in wanted.items():
        candidates = find(ways)
        if len(candidates) > 1:
            raise UserError(
                f"names {shortened(line)!r}, which {len(candidates)} images are called",
                where=where,
                fix=f"give their whole keys, such as {shortened(candidates[0].key)!r}",
            )
        if candidates:
            chosen[line] = candidates[0]
        else:
            missing.append(line)
    if missing:
        raise _missing(missing, images.near, where)
    return chosen


def _possible_keys(path: str) -> tuple[str, ...]:
    """Return the possible keys of a listed image: WebDataset's, and those that this package writes."""
    keys = [split_name(path)[0]]
    if "." in path:  # the last key is that of files that differ only in the extension
        keys += [file_key(path), file_keys([path, path])[0]]
    else:
        keys.append(path)
    return tuple(dict.fromkeys(keys + [normalise_name(key) for key in keys]))


class _Finder:
    """Finds images by key or by the last part of the key, in either of Unicode's forms of accented letters.

    Args:
        images: all images.
        names: the names to find. Other images are not held in memory.
    """

    def __init__(self, images: Iterable[LabelledImage], names: Collection[str]):
        self._by_key: dict[str, list[LabelledImage]] = defaultdict(list)
        self._by_name: dict[str, list[LabelledImage]] = defaultdict(list)
        for image in images:
            for key in dict.fromkeys((image.key, normalise_name(image.key))):
                name = key.rpartition("/")[2]
                if key in names:
                    self._by_key[key].append(image)
                if name in names:
                    self._by_name[name].append(image)

    def __call__(self, ways: Iterable[Sequence[str]]) -> list[LabelledImage]:
        """Return the images of the first of `ways` that matches: first as whole keys, then as last parts of keys."""
        ways = list(ways)
        for table in (self._by_key, self._by_name):
            for names in ways:
                found = {image.key: image for name in names for image in table.get(name, ())}
                exact = [image for key, image in found.items() if key in names]
                if found:
                    return exact or list(found.values())
        return []


_COMPARED = 20_000
"""Most keys that a missing name is compared with."""


def _missing(missing: Sequence[str], images: Iterable[LabelledImage], where: str) -> UserError:
    """Return the error for names that no image has; it shows the first one."""
    nearest = _nearest(missing[0], images)
    first = shortened(missing[0])
    what = f"names {first!r}, which the training data lacks"
    if len(missing) > 1:
        what = f"names {len(missing):,} images that the training data lacks, first {first!r}"
    fix = "each line must be a sample's key or file name"
    return UserError(what, where=where, fix=f"{fix}; the nearest key is {shortened(nearest)!r}" if nearest else fix)


def _nearest(line: str, images: Iterable[LabelledImage]) -> str | None:
    """Return the key that is most similar to a listed name; None if none is similar."""
    path = plain_path(line)
    wanted = file_key(path) if "." in path.rpartition("/")[2] else path
    last = wanted.rpartition("/")[2]
    same = [image.key for image in images if image.key.rpartition("/")[2] == last]
    similar = (image.key for image in images if abs(len(image.key) - len(wanted)) <= len(wanted) // 2)
    keys = same[:_COMPARED] or list(islice(similar, _COMPARED))
    close = difflib.get_close_matches(wanted, keys, n=1, cutoff=0.0 if same else 0.6)
    return close[0] if close else None


def check_every_class_labelled(chosen: Sequence[LabelledImage], class_names: Sequence[str], where: str) -> None:
    """Check that a labelled set has every class, and a true label for each image.

    Raises:
        UserError: it lacks a class, or an image has no true label.
    """
    for image in chosen:
        if not 0 <= image.label < len(class_names):
            raise UserError(f"the image {image.key!r} is chosen as labelled but its shard has no label", where=where)
    present = {image.label for image in chosen}
    absent = [name for label, name in enumerate(class_names) if label not in present]
    if absent:
        raise UserError(
            f"no labelled image of {len(absent)} of {len(class_names)} classes, first {absent[0]!r}",
            where=where,
            fix="every class needs at least one labelled image",
        )
