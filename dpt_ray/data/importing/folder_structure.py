"""Check that the folders at a location are classes, and not splits or one folder that holds all others."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from dpt_ray.data.importing.file_sets import name_some
from dpt_ray.data.importing.split_names import is_bare_split, splits_of_folders
from dpt_ray.data.shards.keys import normalise_name
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import printable

_CLASSES_FIX = "if they are classes, list all class names in data.class_names or data.class_file"


def check_structure(location: str, images: Iterable[str], classes: Collection[str]) -> None:
    """Refuse folders that are not class folders.

    Args:
        location: URL of the folder that holds them.
        images: the paths of all images below it.
        classes: names that are known to be classes, even if they look like splits.

    Raises:
        UserError: the folders are splits, or one folder holds all others.
    """
    holders = {name.rpartition("/")[0] for name in images}
    inner: dict[str, set[str]] = defaultdict(set)
    for holder in holders:
        while holder:
            above, _, name = holder.rpartition("/")
            inner[above].add(name)
            holder = above
    known = {name for name in inner[""] if normalise_name(name) in classes}
    around = _around_everything(inner, holders, known)
    _refuse_splits(location, inner, around, known)
    if around:
        raise UserError(
            f"holds all images in one folder, {printable(around)!r}; the folders in it "
            f"({name_some(sorted(inner[around]))}) look like the classes",
            where=location,
            fix=f"give {printable(stores.join(location, around))}",
        )
    for name in sorted(inner[""] - known):
        if is_bare_split(name) and name not in holders and len(inner[name]) > 1:
            raise UserError(
                f"its folder {printable(name)!r} has the name of a split, and the folders in it "
                f"({name_some(sorted(inner[name]))}) look like classes",
                where=location,
                fix=f"give {printable(stores.join(location, name))}; {_CLASSES_FIX}",
            )


def _around_everything(inner: dict[str, set[str]], holders: Collection[str], known: Collection[str]) -> str:
    """Return the path of the folder that holds all class folders but no image; empty if there is none."""
    place = ""
    while len(inner[place]) == 1 and place not in holders and not known:
        place = f"{place}/{next(iter(inner[place]))}".removeprefix("/")
    return place if len(inner[place]) > 1 and place not in holders else ""


def _refuse_splits(location: str, inner: dict[str, set[str]], around: str, known: Collection[str]) -> None:
    """Refuse a folder, at any depth, with folders of several splits."""
    for place in sorted(inner, key=lambda path: (path.count("/"), path)):
        splits = splits_of_folders(inner[place] - (set(known) if not place else set()))
        if not splits:
            continue
        names = sorted(name for members in splits.values() for name in members)
        if place in ("", around):
            urls = [stores.join(location, *filter(None, [place, name])) for name in names]
            fix = f"name one of them: {' or '.join(map(printable, urls[:4]))}; {_CLASSES_FIX}"
        else:
            fix = "put the class folders of each split into a folder of its own"
        whose = f"its folder {printable(place)!r} holds folders that" if place else "its folders"
        raise UserError(
            f"{whose} are called {name_some(names)}, which are splits, not classes", where=location, fix=fix
        )
