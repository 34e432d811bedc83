"""Files of a pretrained model in a local folder, in object storage, or on the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.stores import StoredFile
from dpt_ray.errors import UserError
from dpt_ray.text import one_line


def is_folder(location: str) -> bool:
    """Whether a location is a folder or URL, not a name on the hub (`owner/name` or `owner/name@revision`)."""
    return "://" in location or Path(location).is_dir() or location.startswith((".", "/", "~"))


def located(location: str) -> str:
    """Return a model's folder as an absolute URL, valid in every process; names on the hub are unchanged."""
    return stores.absolute_url(location) if is_folder(location) else location


def listed_files(location: str, names: Sequence[str], kind: str, optional: Sequence[str] = ()) -> dict[str, StoredFile]:
    """Return the directory entries of a model's files by name.

    Args:
        location: the folder.
        names: names of the files.
        kind: kind of model for messages, as a possessive such as "an encoder's".
        optional: names of further files, which are returned if the folder has them.

    Raises:
        UserError: the folder lacks one of the files.
    """
    files = {file["name"]: file for file in stores.list_files(location)}
    missing = [name for name in names if name not in files]
    if missing:
        raise UserError(f"lacks {missing[0]}", where=location, fix=f"{kind} folder holds {' and '.join(names)}")
    return {name: files[name] for name in (*names, *optional) if name in files}


def hub_file(location: str, name: str) -> str:
    """Return the local path of a file of a model on the hub; download it if it is not cached.

    Args:
        location: `owner/name` or `owner/name/folder`, optionally with `@revision` (a commit, tag or branch).
        name: name of the file.

    Raises:
        UserError: huggingface_hub is missing, there is no such file, or the hub cannot be reached.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise hub_is_missing(location) from None
    place, _, revision = location.partition("@")
    owner, _, rest = place.partition("/")
    model, _, folder = rest.partition("/")
    try:
        return hf_hub_download(f"{owner}/{model}", name, subfolder=folder or None, revision=revision or None)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise UserError(
            f"{name} cannot be fetched from the Hugging Face hub ({one_line(error)})",
            where=location,
            fix="check the name and the network, or give a folder with the model's files",
        ) from None


def hub_file_if_there(location: str, name: str) -> str | None:
    """Return the local path of a file that a model on the hub may have; None if it has no such file.

    Raises:
        UserError: as `hub_file`, when it cannot be known whether there is one.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise hub_is_missing(location) from None
    place, _, revision = location.partition("@")
    cached = try_to_load_from_cache(place, name, revision=revision or None)
    if cached is not None:
        return cached if isinstance(cached, str) else None  # an object stands for the knowledge that there is none
    try:
        return hub_file(location, name)
    except UserError as error:
        cause = error.__context__
        if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
            return None
        raise


def hub_is_missing(name: str) -> UserError:
    """Return the error for a name on the hub where huggingface_hub is not installed."""
    what = "a name on the Hugging Face hub needs the package huggingface_hub"
    return UserError(what, where=name, fix="pip install 'dpt_ray[hub]', or give a folder")
