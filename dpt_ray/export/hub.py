"""Exports on the Hugging Face hub: one commit for each push, and loading of a commit that is known by its hash.

huggingface_hub finds the token itself (HF_TOKEN, or `hf auth login`). Of a repository only the files that `config.json`
lists are fetched, and only those that an export can hold, so a pickle is never on the way.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError, expecting
from dpt_ray.export.arguments import as_url
from dpt_ray.export.folder import CONFIG_FILE, EXPORT_KINDS, ExportConfig, belongs_to_export, read_export
from dpt_ray.networks.pretrained.model_files import hub_is_missing
from dpt_ray.text import one_line

if TYPE_CHECKING:
    import os

    from huggingface_hub import HfApi


@dataclass(frozen=True)
class HubFolder:
    """A fetched export.

    Attributes:
        folder: path of the local copy.
        name: `owner/name` on the hub.
        revision: hash of the commit, 40 hexadecimal digits.
    """

    folder: str
    name: str
    revision: str


def push_to_hub(folder: "str | os.PathLike[str]", name: str, *, private: bool = True) -> str:
    """Upload an export as one commit; see `dpt_ray.push_to_hub`."""
    url = as_url(folder, "folder")
    files = _checked_files(url, read_export(url, EXPORT_KINDS))
    with _hub(name) as api:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api.create_repo(name, private=private, exist_ok=True)
        gone = [old for old in api.list_repo_files(name) if belongs_to_export(old) and old not in files]
        done = api.create_commit(
            name,
            [
                *(CommitOperationAdd(place, content) for place, content in files.items()),
                *(CommitOperationDelete(place) for place in gone),
            ],
            commit_message="Export by dpt_ray",
        )
    return str(done.oid)


def fetch_from_hub(name: str, revision: str | None = None) -> HubFolder:
    """Fetch an export from the hub, or find it among the files that were fetched before.

    Args:
        name: `owner/name`.
        revision: a commit, tag or branch; the newest commit if None. It is resolved to a commit first, so all files are
            of one commit.

    Raises:
        UserError: there is no such export, the hub cannot be reached, or huggingface_hub is missing.
    """
    with _hub(name) as api:
        commit = api.model_info(name, revision=revision).sha
        if commit is None:
            raise UserError("the hub names no commit", where=name)
        place = api.hf_hub_download(name, CONFIG_FILE, revision=commit)
        with expecting("the configuration of an export", f"{name}/{CONFIG_FILE}"):
            listed = [str(file) for file in json.loads(Path(place).read_bytes())["files"]]
        for file in listed:
            if not belongs_to_export(file):
                raise UserError(f"{CONFIG_FILE} lists {file}, which no export holds", where=f"{name}@{commit}")
        for file in listed:
            api.hf_hub_download(name, file, revision=commit)
    return HubFolder(str(Path(place).parent), name, commit)


def _checked_files(url: str, config: ExportConfig) -> dict[str, bytes]:
    """Return the files of an export by name, after a comparison with their checksums; `config.json` is the last."""
    files = {}
    for name, entry in config["files"].items():
        place = stores.join(url, name)
        content = stores.read_bytes(place)
        if not belongs_to_export(name) or sha256(content) != entry.get("sha256"):
            raise UserError("differs from its checksum in config.json", where=place, fix="copy or export it again")
        files[name] = content
    return files | {CONFIG_FILE: stores.read_bytes(stores.join(url, CONFIG_FILE))}


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(library_name="dpt_ray")


@contextmanager
def _hub(name: str) -> Iterator["HfApi"]:
    """Turn errors of the hub's client into one line."""
    try:
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise hub_is_missing(name) from None
    if name.count("/") != 1:
        raise UserError("is no name on the Hugging Face hub", where=name, fix="give owner/name")
    try:
        yield _api()
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise UserError(
            f"the Hugging Face hub refuses or does not answer ({one_line(error)})",
            where=name,
            fix="check name, revision, network and token (HF_TOKEN, or hf auth login)",
        ) from None
