"""A proxy in front of an object store that does to chosen requests what networks and busy servers do.

It runs in a thread of the test's process. Host and path go on as they came, so signatures stay valid.
"""

import asyncio
import re
import socket
import struct
import threading
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

_HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive", "expect"}
_PIECE = 16 * 1024


@dataclass
class Fault:
    """What happens to requests whose line "METHOD raw-path range" matches.

    Attributes:
        match: regular expression.
        kind: `status` (an answer with `status` and S3's `code`), `reset` (instead of an answer), `reset_body` and
            `cut_body` (connection reset, or closed as if at its end, after `after` bytes of the body), `lost`
            (the store does the work, then a reset takes the place of its answer), `slow` (`rate` bytes a
            second, both ways), `hang` (`seconds` of nothing, then a reset).
        times: how many requests; -1 is all.
        skip: matching requests that pass before.
    """

    match: str
    kind: str
    times: int = 1
    skip: int = 0
    status: int = 503
    code: str = "SlowDown"
    after: int = 0
    rate: int = 0
    seconds: float = 3600.0


@dataclass(frozen=True)
class Seen:
    """A request: its line, whom and which region it is signed for, and the fault that met it."""

    line: str
    key: str
    region: str
    fault: str | None


class FaultProxy:
    """The proxy; `url` is where it listens, `seen` all requests since the last `clear`."""

    def __init__(self, upstream: str):
        self._upstream = upstream
        self._faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        assert self._ready.wait(30), "the proxy didn't start"

    def stop(self) -> None:
        """Close all connections."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(30)

    def inject(self, *faults: Fault) -> None:
        """Add faults; the first one that matches a request and has times left meets it."""
        self._faults.extend(faults)

    def clear(self) -> None:
        """Forget all faults and requests."""
        self._faults.clear()
        self.seen.clear()

    def count(self, match: str = "", *, unharmed: bool = False) -> int:
        """Return how many requests were seen whose line matches, or only those that met no fault."""
        seen = [request for request in list(self.seen) if not (unharmed and request.fault)]
        return sum(bool(re.search(match, request.line)) for request in seen)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        connector, timeout = TCPConnector(limit=0), ClientTimeout(total=None)
        async with ClientSession(auto_decompress=False, timeout=timeout, connector=connector) as self._session:
            application = web.Application(client_max_size=2**30)
            application.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(
                application, auto_decompress=False, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stopped.wait()
            await runner.cleanup()

    def _fault(self, line: str) -> Fault | None:
        for fault in self._faults:
            if fault.times != 0 and re.search(fault.match, line):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.raw_path} {request.headers.get('Range', '')}".rstrip()
        fault = self._fault(line)
        signed = re.search(r"Credential=([^,]+)", request.headers.get("Authorization", ""))
        key, _, region, *_ = signed[1].rsplit("/", 4) if signed else ("", "", "")
        self.seen.append(Seen(line, key, region, fault and fault.kind))
        if fault is not None and fault.kind == "status":
            return await _error(request, fault)
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind in ("hang", "reset"):
            return _reset(request)
        try:
            return await self._forward(request, fault or Fault("", "none"))
        except (ClientError, OSError):  # one side has gone
            return _reset(request)

    async def _forward(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=_paced(request.content, fault.rate) if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        ) as answer:
            if fault.kind == "lost":
                await answer.read()
                return _reset(request)
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
            await response.prepare(request)
            if request.method != "HEAD":
                await _send_body(request, response, answer, fault)
            return response


async def _send_body(request: web.Request, response: web.StreamResponse, answer, fault: Fault) -> None:
    left = fault.after if fault.kind in ("reset_body", "cut_body") else None
    async for piece in _paced(answer.content, fault.rate):
        if left is not None and len(piece) > left:
            await response.write(piece[:left])
            await asyncio.sleep(0.02)  # so that the part arrives before the end does
            if fault.kind == "reset_body":
                _reset(request)
            elif request.transport is not None:
                request.transport.close()
            return
        await response.write(piece)
        left = None if left is None else left - len(piece)


async def _paced(stream, rate: int):
    async for piece in stream.iter_chunked(_PIECE):
        yield piece
        if rate:
            await asyncio.sleep(len(piece) / rate)


async def _error(request: web.Request, fault: Fault) -> web.Response:
    await request.read()
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code><Message>no</Message></Error>'
    text = "" if request.method == "HEAD" else text
    return web.Response(status=fault.status, text=text, content_type="application/xml")


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()
