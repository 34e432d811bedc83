"""The only retry layer for an object store: which failures are temporary, how many attempts, and how long to wait.

The S3 clients have their own retry layers, which log nothing and multiply each other's waits. `object_store` turns them
off and sends every request through `with_retries`.
"""

import itertools
import logging
import random
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from dpt_ray.data.storage.outages import outages
from dpt_ray.errors import StoreFailureError, UserError

ATTEMPTS = 10
"""Most attempts of a request."""

FIRST_CONTACT_ATTEMPTS = 5
"""Most attempts while no connection is possible to an endpoint that has never answered this process. Its address is
probably wrong or its server is not running, which the user should learn soon."""

FIRST_WAIT_SECONDS = 0.5
"""The longest wait after the first failure; it doubles with each further one."""

LONGEST_WAIT_SECONDS = 15.0
"""The longest wait between two attempts."""

GIVE_UP_SECONDS = 70.0
"""No attempt begins later than this after the first."""

CONNECT_SECONDS = 5.0
"""An attempt fails if it has no connection after this time."""

READ_SECONDS = 15.0
"""An attempt fails if the server sends nothing for this time. A slow response does not fail."""

SLOWEST_UPLOAD_BYTES_PER_SECOND = 64 * 1024
"""An attempt fails if its upload is slower. Without this limit a server that stops reading would block it for ever."""

_TEMPORARY_STATUS = {408, 425, 429}
_LASTING_STATUS = {501, 505}
_TEMPORARY_CODES = {
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
    "XAmzContentSHA256Mismatch",
}
_CUT_SHORT = (
    aiohttp.ClientPayloadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
)
_CLOSED = (boto.HTTPClientError, boto.ConnectionError, aiohttp.ClientConnectionError, ConnectionError)

_T = TypeVar("_T")
_log = logging.getLogger("dpt_ray.storage")
_requests = itertools.count()
_jitter = random.SystemRandom()  # not seeded, so that forked processes do not wait in step


@dataclass(frozen=True)
class Trouble:
    """A temporary failure.

    Attributes:
        what: its description.
        unreachable: whether there was no connection to the server.
    """

    what: str
    unreachable: bool = False


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def answer(error: BaseException) -> tuple[int, str] | None:
    """Return the HTTP status and S3's error code of the response that caused `error`; None if no response did.

    The response to a HEAD request has no error code, so the status is returned for both.
    """
    for cause in causes(error):
        if isinstance(cause, boto.ClientError):
            status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status), str(cause.response.get("Error", {}).get("Code", status))
    return None


def temporary_trouble(error: BaseException) -> Trouble | None:
    """Return a description of a temporary failure; None for an error that a retry does not remedy."""
    answered = answer(error)
    if answered is not None:
        status, code = answered
        temporary = code in _TEMPORARY_CODES or status in _TEMPORARY_STATUS or status >= 500
        text = f"HTTP status {status}" + (f", {code}" if code != str(status) else "")
        return Trouble(text) if temporary and status not in _LASTING_STATUS else None
    chain = list(causes(error))
    for kinds, trouble in _TROUBLES:
        if any(isinstance(cause, kinds) for cause in chain):
            return trouble
    return None


_TROUBLES: tuple[tuple[type | tuple[type, ...], Trouble | None], ...] = (
    (UserError, None),
    (boto.SSLError, None),
    (boto.ConnectTimeoutError, Trouble("no connection in time", unreachable=True)),
    (boto.ReadTimeoutError, Trouble("no answer in time")),
    (_CUT_SHORT, Trouble("the answer was cut short")),
    ((aiohttp.ClientConnectorError, boto.ProxyConnectionError), Trouble("no connection", unreachable=True)),
    (_CLOSED, Trouble("the connection was closed")),
    (TimeoutError, Trouble("no answer in time")),
    (ResponseParserError, Trouble("an answer that cannot be read")),
)
"""Types of errors -> description, None for lasting ones. The first row that matches a cause of an error applies."""


def longest_wait(failures: int) -> float:
    """Return the longest wait, in seconds, after a number of failures of a request. The wait is drawn uniformly."""
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (failures - 1))


async def with_retries(attempt: Callable[[], Awaitable[_T]], *, where: str, reached: Callable[[], bool]) -> _T:
    """Return the result of `attempt`, which is called again after temporary failures.

    Args:
        attempt: sends one request and receives the whole response.
        where: URL of the requested object, for messages.
        reached: whether the server has ever answered this process.

    Raises:
        StoreFailureError: all attempts failed.
        Exception: any other error of `attempt`, at once.
    """
    request = next(_requests)
    try:
        return await _repeated(attempt, where, reached, request)
    finally:
        outages.ended(request, well=False)


async def _repeated(attempt: Callable[[], Awaitable[_T]], where: str, reached: Callable[[], bool], request: int) -> _T:
    start = time.monotonic()
    for failures in itertools.count(1):
        try:
            result = await attempt()
            outages.ended(request, well=True)
            return result
        except Exception as error:
            trouble = temporary_trouble(error)
            if trouble is None:
                outages.ended(request, well=True)  # the store answers, whatever it says
                raise
            wait, passed = _jitter.uniform(0, longest_wait(failures)), time.monotonic() - start
            hopeless = trouble.unreachable and not reached()
            limit = FIRST_CONTACT_ATTEMPTS if hopeless else ATTEMPTS
            if failures >= limit or passed + wait > GIVE_UP_SECONDS:
                raise _given_up(trouble, failures, passed, where) from error
        if failures > 1:
            outages.failed(request, where, trouble.what)
            _log.warning("%s: %d attempts failed (%s); the next in %.1f s", where, failures, trouble.what, wait)
        await sleep(wait)
    raise AssertionError("unreachable")


def _given_up(trouble: Trouble, failures: int, seconds: float, where: str) -> StoreFailureError:
    if trouble.unreachable:
        what, fix = "the object store cannot be reached", "check AWS_ENDPOINT_URL, the network and that it is running"
    else:
        what, fix = "the object store keeps failing", "run the same command again later: what is finished is kept"
    return StoreFailureError(
        f"{what}: gave up after {failures} attempts in {seconds:.0f} s ({trouble.what})", where=where, fix=fix
    )
