"""Claims: of two jobs that want the same missing artifact, one makes it and the other waits.

A claim is a small file beside the artifact that its holder renews. It spares work; it guards nothing:
artifacts are written atomically and are functions of their address, so two makers would agree.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

CLAIM_FILE = "claim.json"
RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A claim not renewed for so long belongs to a holder that is gone."""
SETTLE_SECONDS = 0.3
"""Between writing a claim and looking whether another one that came at the same moment replaced it."""

_held: set[str] = set()
"""Tokens of the claims that this process holds or is about to take."""


class Claim:
    """The right to make what belongs in `folder`; a context manager.

    Entering waits while another living holder has it; if the wait ends because the artifact exists, nothing is claimed.

    Args:
        folder: URL of the artifact's folder.
        is_done: tells that the artifact exists, which ends the waiting.
        on_wait: called once with the holder's name if there is a wait.
    """

    def __init__(self, folder: str, is_done: Callable[[], bool], on_wait: Callable[[str], None]):
        self._url = stores.join(folder, CLAIM_FILE)
        self._is_done, self._on_wait = is_done, on_wait
        self._token = uuid.uuid4().hex
        self._holder = {"host": socket.gethostname(), "process": os.getpid(), "token": self._token}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Claim":
        _held.add(self._token)
        while self._wait():
            self._write()
            time.sleep(SETTLE_SECONDS)
            if self._is_mine():
                self._thread.start()
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.ident:  # it was started, so there was a claim
            self._stop.set()
            self._thread.join()
            if self._is_mine():
                stores.remove_tree(self._url)
        _held.discard(self._token)

    def _wait(self) -> bool:
        """Wait until the claim is free, or (False) the artifact exists."""
        told = False
        last: dict[str, Any] | None = None
        unchanged_since = time.monotonic()
        while not self._is_done():
            claim = self._read()
            if claim is None or not _may_be_alive(claim):
                return True
            if claim != last:  # clocks of hosts differ: staleness is measured on this one
                last, unchanged_since = claim, time.monotonic()
            if time.monotonic() - unchanged_since > STALE_SECONDS:
                return True
            if not told:
                told = True
                self._on_wait(f"process {claim.get('process')} on {claim.get('host')}")
            time.sleep(1.0)
        return False

    def _is_mine(self) -> bool:
        claim = self._read()
        return claim is not None and claim.get("token") == self._token

    def _read(self) -> dict[str, Any] | None:
        try:
            claim = stores.read_json(self._url) if stores.exists(self._url) else None
        except UserError:  # it was removed in between
            return None
        return claim if isinstance(claim, dict) else None

    def _write(self) -> None:
        stores.write_json(self._url, {**self._holder, "renewed": time.time()})

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            with suppress(UserError):  # the store may answer again next time
                self._write()


def _may_be_alive(claim: dict[str, Any]) -> bool:
    """Whether the holder may still run: certain only for a process of this host."""
    if claim.get("host") != socket.gethostname():
        return True
    try:
        if int(claim["process"]) < 1:  # os.kill would take it for a group of processes
            return False
        os.kill(int(claim["process"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError, OverflowError):  # gone, or no claim of ours
        return False
    except PermissionError:
        return True
    return int(claim["process"]) != os.getpid() or str(claim.get("token")) in _held
