"""Claims: of two jobs that need the same missing artifact, one makes it and the other waits.

A claim is a small file beside the artifact, which its holder renews. It only saves work. Artifacts are written
atomically and follow from their address, so two holders would write the same artifact. A holder that stood still for
too long (a suspended machine, a store that did not answer) is succeeded; it notices that and gives up (`Ownership`).
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.errors import UserError

CLAIM_FILE = "claim.json"
RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0
"""Age in seconds after which the holder of a claim that was not renewed counts as gone."""
SEEN_SECONDS = 120.0
"""As `STALE_SECONDS` for whoever looks once and cannot wait: it allows for clocks that differ and slow stores."""
SETTLE_SECONDS = 0.3
"""Time in seconds between writing a claim and reading it again, since another job may have replaced it. A
claim that is new on a local filesystem needs none: see `stores.write_new`."""
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, PAUSE_GROWTH = 1.0, 15.0, 1.25
"""First and longest pause in seconds between two looks at a claim that is waited for, and by how much they grow."""

_held: set[str] = set()
"""Tokens of the claims that this process holds or is about to take."""


@dataclass(frozen=True)
class Holder(Record):
    """The content of a claim.

    Attributes:
        host: name of the host.
        process: process id.
        token: identifies the claim.
        renewed: Unix time of the last renewal on the clock of the host, s.
        needs: addresses of artifacts that the holder works with; None for none.
    """

    host: str
    process: int
    token: str
    renewed: float
    needs: tuple[str, ...] | None = optional()


class Claim:
    """The right to make the artifact of `folder`; a context manager.

    Entering waits while another living process holds the claim. If the artifact then exists, nothing is claimed.

    Args:
        folder: URL of the artifact's folder.
        is_done: whether the artifact exists, which ends the wait.
        on_wait: called once with the name of the holder if there is a wait.
        needs: addresses of artifacts that the holder works with, which `held_needs` returns while it has the claim.
        on_takeover: called with the name of a holder that was waited for and has gone without making the artifact.
    """

    def __init__(
        self,
        folder: str,
        is_done: Callable[[], bool],
        on_wait: Callable[[str], None],
        needs: Sequence[str] = (),
        on_takeover: Callable[[str], None] = lambda holder: None,
    ):
        self._url = stores.join(folder, CLAIM_FILE)
        self._is_done, self._on_wait, self._on_takeover = is_done, on_wait, on_takeover
        self._token, self._needs = uuid.uuid4().hex, tuple(needs) or None
        self._succeeded: Holder | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Claim":
        _held.add(self._token)
        while self._wait():
            if self._take():
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
                # A claim that stays behind expires. Its removal must not hide why the artifact could not be made.
                with suppress(UserError):
                    stores.remove_tree(self._url)
        _held.discard(self._token)

    @property
    def ownership(self) -> "Ownership":
        """The claim as others may ask for it."""
        return Ownership(self._url, self._token)

    def _wait(self) -> bool:
        """Wait until the claim is free, or (False) the artifact exists.

        Many may wait for one artifact, so each look costs one request while the holder renews its claim, and looks
        become rarer: the end of a wait is noticed at most a quarter of the wait later, or `MOST_PAUSE_SECONDS`.
        """
        if self._is_done():
            return False
        holder, pause = "", FIRST_PAUSE_SECONDS
        last: Holder | None = None
        unchanged_since = time.monotonic()
        while True:
            claim = _read(self._url)
            is_renewed = claim is not None and claim != last
            if claim != last:  # clocks of hosts differ: staleness is measured on this one
                last, unchanged_since = claim, time.monotonic()
            is_stale = time.monotonic() - unchanged_since > STALE_SECONDS
            is_free = claim is None or is_stale or not _may_be_alive(claim)
            if (is_free or not is_renewed) and holder and self._is_done():
                return False
            if claim is None or is_free:
                if holder:
                    self._on_takeover(holder)
                self._succeeded = claim
                return True
            if not holder:
                holder = f"process {claim.process} on {claim.host}"
                self._on_wait(holder)
            time.sleep(pause)
            pause = min(MOST_PAUSE_SECONDS, pause * PAUSE_GROWTH)

    def _take(self) -> bool:
        """Write the claim, after `_wait` found it free; return whether this job holds it."""
        if stores.write_new(self._url, self._content()):
            return True
        claim = _read(self._url)
        if claim is not None and claim != self._succeeded:
            return False  # another job was faster
        self._write()
        time.sleep(SETTLE_SECONDS)
        return self._is_mine()

    def _is_mine(self) -> bool:
        claim = _read(self._url)
        return claim is not None and claim.token == self._token

    def _content(self) -> bytes:
        holder = Holder(socket.gethostname(), os.getpid(), self._token, time.time(), self._needs)
        return stores.json_bytes(holder.to_json())

    def _write(self) -> None:
        stores.write_bytes(self._url, self._content())

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS) and self.ownership.holds():
            with suppress(UserError):  # the store may answer again next time
                self._write()


@dataclass(frozen=True)
class Ownership:
    """The right that a claim gives, as any process can check it.

    Attributes:
        url: of the claim.
        token: of its holder.
    """

    url: str
    token: str

    def holds(self) -> bool:
        """Whether nobody else has the claim. A claim that cannot be read proves nothing."""
        claim = _read(self.url)
        return claim is None or claim.token == self.token


def is_held(folder: str) -> bool:
    """Whether a living holder has the claim on a folder, as far as can be said at once.

    A holder counts as living while its claim was renewed within `SEEN_SECONDS` by the clocks of both hosts.
    """
    return held_needs(folder) is not None


def held_needs(folder: str) -> tuple[str, ...] | None:
    """Return the addresses that the living holder of a folder's claim works with; None without such a holder."""
    claim = _read(stores.join(folder, CLAIM_FILE))
    if claim is None or not _may_be_alive(claim) or abs(time.time() - claim.renewed) > SEEN_SECONDS:
        return None
    return claim.needs or ()


def _read(url: str) -> Holder | None:
    try:
        holder: Holder = read_document(url, Holder, "a claim")
        return holder
    except UserError:  # there is none, or it is no claim of ours
        return None


def _may_be_alive(claim: Holder) -> bool:
    """Whether the holder may still run, which is certain only for a process of this host."""
    if claim.host != socket.gethostname():
        return True
    if claim.process < 1:  # os.kill would take it for a group of processes
        return False
    try:
        os.kill(claim.process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return claim.process != os.getpid() or claim.token in _held
