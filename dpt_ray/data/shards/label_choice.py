"""The choice of labelled images: k of every class, a share of every class, or a list of names.

A draw ranks the images of a class by a hash of seed and key. So it does not depend on the order of shards, and for one
seed every larger subset contains every smaller one, as with MSN's published subsets.
"""

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dpt_ray.core.row_random import derive_seed
from dpt_ray.data.shards.keys import file_key, file_keys, normalise_name
from dpt_ray.data.shards.listed_paths import ListedPaths, plain_path
from dpt_ray.data.shards.samples import split_name
from dpt_ray.errors import UserError
from dpt_ray.text import shortened


@dataclass(frozen=True)
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


def draw_per_class(
    images: Sequence[LabelledImage], class_names: Sequence[str], counts: Sequence[int], seed: int
) -> list[LabelledImage]:
    """Draw `counts[c]` images of each class c.

    Raises:
        UserError: a class has fewer images than requested.
    """
    chosen = []
    for label, name in enumerate(class_names):
        members = [image for image in images if image.label == label]
        if not members and counts[label]:
            raise UserError(
                f"no image of class {name!r}, one of {len(class_names)}",
                where="labels",
                fix="set data.num_classes (or the class names) to the classes of the data, or add images",
            )
        if len(members) < counts[label]:
            raise UserError(
                f"{counts[label]} labelled images of class {name!r} are requested, and it has {len(members)}",
                where="labels",
                fix="lower labels.per_class or add images",
            )
        members.sort(key=lambda image: (derive_seed("labelled", seed, image.key), image.key))
        chosen += members[: counts[label]]
    return chosen


def choose_listed(
    images: Iterable[LabelledImage], lines: Sequence[str], where: str, location: str | None = None
) -> list[LabelledImage]:
    """Return the images that `find_listed` finds, each once."""
    found = find_listed(images, lines, where, location).values()
    return list({image.key: image for image in found}.values())


def find_listed(
    images: Iterable[LabelledImage], lines: Sequence[str], where: str, location: str | None = None
) -> dict[str, LabelledImage]:
    """Find the images that `lines` name by key or file name (`n04235860_14959.JPEG`).

    Empty lines and comments are ignored. A comment is `#` alone, or starts with `#` and a space. A name may be a path
    in any of the forms of `ListedPaths`.

    Args:
        images: all images.
        lines: the lines of the list.
        where: URL of the list, for messages.
        location: URL of the training images, to which listed paths may be relative or absolute.

    Returns:
        Line without blanks around it -> the image.

    Raises:
        UserError: the list names no image, names a missing one, or has a file name that several images share.
    """
    images = list(images)
    listed = dict.fromkeys(line for line in map(str.strip, lines) if line and line != "#" and not line.startswith("# "))
    if not listed:
        raise UserError("names no image", where=where)
    paths = ListedPaths(location, (image.key for image in images))
    wanted = {line: [_possible_keys(path) for path in paths.below(line)] for line in listed}
    find = _Finder(images, {name for ways in wanted.values() for names in ways for name in names})
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
        raise _missing(missing, images, where)
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


def _missing(missing: Sequence[str], images: Sequence[LabelledImage], where: str) -> UserError:
    """Return the error for names that no image has; it shows the first one."""
    nearest = _nearest(missing[0], images)
    first = shortened(missing[0])
    what = f"names {first!r}, which the training data lacks"
    if len(missing) > 1:
        what = f"names {len(missing):,} images that the training data lacks, first {first!r}"
    fix = "each line must be a sample's key or file name"
    return UserError(what, where=where, fix=f"{fix}; the nearest key is {shortened(nearest)!r}" if nearest else fix)


def _nearest(line: str, images: Sequence[LabelledImage]) -> str | None:
    """Return the key that is most similar to a listed name; None if none is similar."""
    path = plain_path(line)
    wanted = file_key(path) if "." in path.rpartition("/")[2] else path
    last = wanted.rpartition("/")[2]
    same = [image.key for image in images if image.key.rpartition("/")[2] == last]
    keys = same or [image.key for image in images if abs(len(image.key) - len(wanted)) <= len(wanted) // 2]
    close = difflib.get_close_matches(wanted, keys[:_COMPARED], n=1, cutoff=0.0 if same else 0.6)
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
