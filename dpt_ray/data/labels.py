"""Which images are labelled: k of every class, a share of every class, or a list of names.

A draw ranks a class's images by a hash of (seed, key). So it does not depend on the order of shards,
and for one seed every smaller subset is contained in every larger one, as in MSN's published subsets.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dpt_ray.core.random import derive_seed
from dpt_ray.data.importing.keys import file_key
from dpt_ray.data.shards import split_name
from dpt_ray.errors import UserError


@dataclass(frozen=True)
class LabelledImage:
    """An image whose true label training may use: its shard (by position), row, key and class id."""

    shard: int
    row: int
    key: str
    label: int


def draw_per_class(
    images: Sequence[LabelledImage], class_names: Sequence[str], counts: Sequence[int], seed: int
) -> list[LabelledImage]:
    """Draw `counts[c]` images of each class c.

    Raises:
        UserError: a class has fewer images than asked for.
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
                f"{counts[label]} labelled images asked for of class {name!r}, which has {len(members)}",
                where="labels",
                fix="lower labels.per_class or add images",
            )
        members.sort(key=lambda image: (derive_seed("labelled", seed, image.key), image.key))
        chosen += members[: counts[label]]
    return chosen


def choose_listed(images: Iterable[LabelledImage], lines: Sequence[str], where: str) -> list[LabelledImage]:
    """Choose the images that `lines` name by key or file name (`n04235860_14959.JPEG`).

    Raises:
        UserError: no line at all, a name that no image has, or a file name that several images have.
    """
    wanted = {line: _possible_keys(line) for line in map(str.strip, lines) if line}
    if not wanted:
        raise UserError("names no image", where=where)
    names = {name for possible in wanted.values() for name in possible}
    by_key, by_name = {}, defaultdict(list)
    for image in images:
        name = image.key.rpartition("/")[2]
        if image.key in names:
            by_key[image.key] = image
        if name in names:
            by_name[name].append(image)
    chosen, missing = {}, []
    for line, possible in wanted.items():
        candidates = [by_key[name] for name in possible if name in by_key]
        candidates = candidates or [image for name in possible for image in by_name[name]]
        if len(candidates) > 1:
            raise UserError(
                f"names {line!r}, which {len(candidates)} images are called",
                where=where,
                fix=f"give their whole keys, such as {candidates[0].key!r}",
            )
        if candidates:
            chosen[candidates[0].key] = candidates[0]
        else:
            missing.append(line)
    if missing:
        raise UserError(
            f"names {len(missing)} images that the training data lacks, first {missing[0]!r}",
            where=where,
            fix="each line must be a sample's key or file name",
        )
    return list(chosen.values())


def _possible_keys(line: str) -> tuple[str, ...]:
    """Return what a listed image may be called: as WebDataset cuts its name, or as this package wrote it."""
    return tuple(dict.fromkeys((split_name(line)[0], file_key(line) if "." in line else line)))


def check_every_class_labelled(chosen: Sequence[LabelledImage], class_names: Sequence[str], where: str) -> None:
    """Refuse a labelled set that lacks a class, or holds an image without a true label.

    Raises:
        UserError: naming the classes, or the image.
    """
    for image in chosen:
        if not 0 <= image.label < len(class_names):
            raise UserError(f"the image {image.key!r} is to be labelled but its shard gives no label", where=where)
    present = {image.label for image in chosen}
    absent = [name for label, name in enumerate(class_names) if label not in present]
    if absent:
        raise UserError(
            f"no labelled image of {len(absent)} of {len(class_names)} classes, first {absent[0]!r}",
            where=where,
            fix="every class needs at least one labelled image",
        )
