"""Checks within seconds whether RAY_ADDRESS names a cluster that a job can join.

Ray itself waits for minutes for a cluster that does not answer, or raises errors that do not name the cause.
"""

import http.client
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as LateError
from typing import Any

from dpt_ray.distributed.background import in_background
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

VARIABLE = "RAY_ADDRESS"
NAME_SECONDS, CONNECT_SECONDS, ANSWER_SECONDS, PAGE_SECONDS, NODE_SECONDS = 4.0, 4.0, 5.0, 2.0, 4.0
"""Longest time to wait for the address of a name, a connection, an answer, a page, and a node on this machine. They add
up to less than 20 s."""

_START = "start one with 'ray start --head', or unset RAY_ADDRESS to use this machine"
_WHICH = "RAY_ADDRESS is host:port as 'ray start --head' prints it, with port 6379 unless --port says another"
_TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the token of the cluster"


def named_address() -> str | None:
    """Return the value of RAY_ADDRESS; None if it is unset or names no cluster but this machine alone."""
    address = os.environ.get(VARIABLE, "").strip()
    return None if address in ("", "local") else address


def join(address: str, settings: dict[str, Any]) -> None:
    """Connect this process to the cluster at an address.

    Args:
        address: the value of RAY_ADDRESS.
        settings: further arguments of `ray.init`.

    Raises:
        UserError: the cluster cannot be joined.
    """
    check_address(address)
    import ray

    try:
        ray.init(address=address, **settings)
    except OSError as error:
        raise _refusal(address, f"no Ray cluster can be reached there ({_reason(error)})", _START) from None
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        what = f"that cluster has other versions of Ray or Python ({one_line(error)})"
        raise _refusal(address, what, "use the same versions here and there") from None


def check_address(address: str) -> None:
    """Check that a job can join the cluster at an address.

    Raises:
        UserError: it cannot. The error says what was found there.
    """
    if address == "auto":
        address = _newest_on_this_machine(address)
    host, port = _host_and_port(address)
    _connect(address, host, port)
    _ask(address, host, port)


def _refusal(address: str, what: str, fix: str) -> UserError:
    return UserError(what, where=f"{VARIABLE}={address}", fix=fix)


def _newest_on_this_machine(address: str) -> str:
    from dpt_ray.distributed import ray_internals

    try:
        return ray_internals.newest_address(address)
    except (ConnectionError, ValueError) as error:
        what = f"no Ray cluster can be reached there ({_first_sentence(error)})"
        raise _refusal(address, what, _START) from None


def _first_sentence(error: BaseException) -> str:
    return str(error).partition(". ")[0].rstrip(".")


def _host_and_port(address: str) -> tuple[str, int]:
    scheme, mark, _ = address.partition("://")
    if mark and scheme in ("http", "https"):
        raise _refusal(
            address, "is the address of a dashboard or job server, not of the cluster", f"{_WHICH}; or {_SUBMIT}"
        )
    if mark and scheme == "ray":
        raise _refusal(address, "is an address of Ray Client, by which jobs here cannot run", f"{_WHICH}; or {_SUBMIT}")
    host, colon, port = address.rpartition(":")
    if mark or not colon or not host or "/" in address or not (host[:1] == "[" or ":" not in host):
        raise _refusal(address, "is not of the form host:port", _WHICH)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise _refusal(address, f"{port or 'nothing'} is no port, which is a number from 1 to 65535", _WHICH)
    return host.removeprefix("[").removesuffix("]"), int(port)


_SUBMIT = "run it with 'ray job submit --address', which takes a job server's address"


def _connect(address: str, host: str, port: int) -> None:
    """Connect to the port once.

    Raises:
        UserError: the name is not known, or there is no connection.
    """
    try:
        places = _within(NAME_SECONDS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError, LateError) as error:
        what = f"no Ray cluster can be reached there (the name {host} is not known: {_reason(error)})"
        raise _refusal(address, what, _WHICH) from None
    try:
        # Ray also tries only the first of a name's addresses.
        socket.create_connection(places[0][4][:2], timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _refusal(address, f"no Ray cluster can be reached there ({_reason(error)})", _START) from None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError | LateError):
        return "no answer came in time"
    return getattr(error, "strerror", None) or str(error)


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return the result of `call`. A call that takes longer goes on in its thread, and its result is dropped.

    Raises:
        LateError: it took longer than `seconds`.
    """
    return in_background(call).result(seconds)


def _ask(address: str, host: str, port: int) -> None:
    """Check that Ray's control store answers, has this version of Ray, and has a node on this machine.

    Raises:
        UserError: one of these is not the case.
    """
    import grpc
    import ray
    from ray.exceptions import AuthenticationError

    from dpt_ray.distributed import ray_internals

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    deadline = time.monotonic() + NODE_SECONDS
    while True:
        try:
            reply = ray_internals.check_alive(place, ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise _unfit(address, host, port, error) from None
        except (AuthenticationError, RuntimeError) as error:
            what = f"RAY_AUTH_MODE is token, and no token can be read ({_first_sentence(error)})"
            raise _refusal(address, what, _TOKEN) from None
        if reply.ray_version != ray.__version__:
            what = f"that cluster runs Ray {reply.ray_version}, and this is Ray {ray.__version__}"
            raise _refusal(address, what, "install the same version of Ray here and there")
        if any(reply.raylet_alive):
            return
        if time.monotonic() > deadline:
            what = "no node of that cluster runs on this machine, and a job must run on one of its nodes"
            raise _refusal(address, what, _SUBMIT)
        time.sleep(0.5)


def _unfit(address: str, host: str, port: int, error: Any) -> UserError:
    """Return the error for a server whose answer shows that a job cannot join it.

    Args:
        address: the value of RAY_ADDRESS.
        host: its host.
        port: its port.
        error: the error that the request to Ray's control store raised.
    """
    import grpc

    from dpt_ray.distributed import ray_internals

    code = error.code()
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        if ray_internals.sends_token():
            return _refusal(address, "that cluster refuses the token of this process", _TOKEN)
        return _refusal(address, "that cluster requires a token, and this process sends none", _TOKEN)
    if code == grpc.StatusCode.UNIMPLEMENTED:
        what = "another server than Ray's control store answers at that port, by the same protocol (gRPC)"
        return _refusal(address, what, _WHICH)
    page = _page(host, port)
    if page == "ray":
        return _refusal(
            address, "is the port of a dashboard or job server, not of the cluster", f"{_WHICH}; or {_SUBMIT}"
        )
    if page == "other":
        return _refusal(address, "a web server answers there, which does not speak Ray's protocol", _WHICH)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        what = f"the server there accepts connections but sends nothing for {ANSWER_SECONDS:g} s; it is no Ray cluster"
        return _refusal(address, what, _WHICH)
    return _refusal(address, "the server there does not speak Ray's protocol", _WHICH)


def _page(host: str, port: int) -> str | None:
    """Return `ray` for a dashboard of Ray, `other` for another web server, None for another server."""
    connection = http.client.HTTPConnection(host, port, timeout=PAGE_SECONDS)
    try:
        connection.request("GET", "/api/gcs_healthz")
        answer = connection.getresponse()
        text = answer.read(1000).decode("latin-1")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return "ray" if "success" in text or "GCS" in text else "other"
