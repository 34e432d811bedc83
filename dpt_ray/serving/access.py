"""Who may use the service: on the loopback address the user of this machine, elsewhere who has the token."""

import hmac
import ipaddress
import os
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from dpt_ray.errors import UserError
from dpt_ray.serving.limits import RefusedError

TOKEN_VARIABLE = "DPT_SERVE_TOKEN"
_LEAST_TOKEN = 16
"""Fewest characters of a token."""


def read_token(file: str | None) -> str | None:
    """Return the token from a file, or from the variable DPT_SERVE_TOKEN; None if neither is given.

    A command line is no place for a token: other users of the machine can read it.

    Raises:
        UserError: the file cannot be read or others may read it, or the token is short or not plain ASCII.
    """
    if file is None:
        token, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if not token:
            return None
    else:
        where = file
        try:
            status = os.stat(file)
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UserError(f"the token cannot be read ({reason})", where=file) from None
        if status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
            raise UserError("other users may read this token", where=file, fix=f"chmod 600 {file}")
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"is no token of at least {_LEAST_TOKEN} printable ASCII characters without spaces",
            where=where,
            fix="make one with: openssl rand -hex 32",
        )
    return token


def check_host(host: str, token: str | None) -> None:
    """Check that a service without a token listens on the loopback address alone.

    Raises:
        UserError: it would listen elsewhere, or there is no such address.
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise UserError("there is no such address", where=f"--host {host}", fix="give 127.0.0.1 or 0.0.0.0") from None
    if token is None and not all(ipaddress.ip_address(str(address)).is_loopback for address in found):
        raise UserError(
            "others could reach the service there, so it needs a token",
            where=f"--host {host}",
            fix=f"set {TOKEN_VARIABLE} or --token-file, or leave --host out",
        )


def check_access(request: web.Request, token: str | None) -> None:
    """Refuse a request of somebody who may not use the service.

    Without a token only pages of this service itself may ask. A page of another site that the user's browser shows
    reaches the loopback address, too: by its own name for that address, or with an `Origin` of its own.

    Raises:
        RefusedError: the token is missing or wrong (401), or the request comes from elsewhere (403).
    """
    if token is not None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        right = kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        if not right:
            raise RefusedError(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        return
    if not _is_loopback(request.host):
        raise RefusedError(403, "without a token the service answers to localhost and 127.0.0.1 alone")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise RefusedError(403, "pages of other sites may not use this service")


def _is_loopback(netloc: str) -> bool:
    """Whether a `Host` header names the loopback address."""
    try:
        name = urlsplit(f"//{netloc}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
