"""Compiled code that outlives a process: in a folder of this machine, and, where a place for it is set, in an archive.

torch keys what it compiles by the graph, its versions and the card, so code of others is never taken for that of a
network. An archive holds what `torch.compiler.save_cache_artifacts` returns. It is a program, pickles among it: whoever
may write it may run code here. So it never lies below `root` by itself; see decision 93.
"""

import hashlib
import platform
from collections.abc import Callable

import torch

from dpt_ray.data.storage import stores
from dpt_ray.distributed.code_folder import use_private_code_folder
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

CHECKSUM_BYTES = hashlib.sha256().digest_size
MOST_BYTES = 2**30
"""Most bytes of archives that a process reads."""

SUFFIX = ".compiled"


def code_key(device: torch.device) -> str:
    """Return the name of the folder of archives, which follows from versions and card."""
    from dpt_ray import __version__

    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    parts = (__version__, torch.__version__, torch.version.cuda or "no CUDA", platform.python_version(), card)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class CompiledCode:
    """The archives of compiled code for this device's card: one for each set of graphs that a process compiled.

    Args:
        place: folder or object-store URL that the user trusts as code; None to keep compiled code on this machine only.
        device: the device that code is compiled for.
        say: receives a line of text if an archive cannot be used.
    """

    def __init__(self, place: str | None, device: torch.device, say: Callable[[str], object]):
        self._folder = None if place is None else stores.join(place, code_key(device))
        self._say = say
        self._saved = False

    def load(self) -> None:
        """Take over what earlier runs compiled, at most `MOST_BYTES`. Call it before the first compilation."""
        use_private_code_folder()
        if self._folder is None:
            return
        left = MOST_BYTES
        try:
            archives = [file for file in stores.list_files(self._folder) if file["url"].endswith(SUFFIX)]
        except UserError as error:
            self._say(f"compiled code is not used: {one_line(error)}")
            return
        for archive in archives:
            left -= archive["size"] or 0
            if left < 0:
                self._say(f"compiled code beyond {MOST_BYTES // 2**20} MiB in {self._folder} is not used")
                return
            self._load(archive["url"])

    def _load(self, url: str) -> None:
        try:
            content = stores.read_bytes(url)
            checksum, artifacts = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
            if hashlib.sha256(artifacts).digest() != checksum:
                raise ValueError("its checksum is wrong")
            torch.compiler.load_cache_artifacts(artifacts)
        except (UserError, ValueError, RuntimeError) as error:
            self._say(f"compiled code of {url} is not used: {one_line(error)}")

    def save(self) -> None:
        """Store what this process compiled, once, after the first steps. The same graphs are not stored again."""
        if self._saved or self._folder is None:
            return
        self._saved = True
        found = torch.compiler.save_cache_artifacts()
        if found is None:
            return
        artifacts, info = found
        graphs = sorted(key for keys in info.artifacts.values() for key in keys)
        name = hashlib.sha256("\n".join(graphs).encode()).hexdigest()[:16]
        url = stores.join(self._folder, f"{name}{SUFFIX}")
        try:
            if not stores.exists(url):
                stores.write_bytes(url, hashlib.sha256(artifacts).digest() + artifacts)
        except UserError as error:
            self._say(f"compiled code is not kept: {one_line(error)}")
