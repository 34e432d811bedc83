"""The HTTP interface of the gallery, on aiohttp.

    GET  /              the page; with /gallery.css and /gallery.js
    GET  /api/models    classes, defaults and limits
    POST /api/images    a JSON object -> images as base64 of PNG
    POST /api/classify  the content of an image file -> its most probable classes
    GET  /healthz       200 while requests are answered, otherwise 503
    GET  /metrics       for Prometheus

Every error is a JSON object in one line, `{"error": "..."}`, with the status that fits.
"""

import asyncio
import base64
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

from aiohttp import web

from dpt_ray import __version__
from dpt_ray.config.places import redacted
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.job_log import tell
from dpt_ray.errors import UserError
from dpt_ray.json_values import Json, JsonObject
from dpt_ray.report.gallery_page import gallery_script, gallery_style, render_gallery
from dpt_ray.serving.access import check_access
from dpt_ray.serving.limits import JSON_BYTES, Limits, RefusedError
from dpt_ray.serving.request_queue import Networks, RequestQueue
from dpt_ray.serving.served_networks import Answer, DrawnImages, FoundClasses
from dpt_ray.serving.service_metrics import CONTENT_TYPE, ServiceMetrics
from dpt_ray.serving.service_requests import Request, UploadRequest, read_drawing_request

_HEADERS = {
    # The page loads its own script and stylesheet, shows what it was sent, and nothing else.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": f"dpt_ray/{__version__}",
}
_OPEN = frozenset({"/", "/gallery.css", "/gallery.js", "/healthz"})
"""Paths that need no token: they tell nothing of the networks."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpService:
    """Answers HTTP requests.

    Args:
        networks: answer the requests for images and classes.
        limits: bounds of requests.
        title: names the networks on the page.
        token: what a request must carry; None for a service on the loopback address.
    """

    def __init__(self, networks: Networks, limits: Limits, title: str, token: str | None):
        self._networks, self._limits, self._title, self._token = networks, limits, title, token
        self._offer = networks.describe()
        self.metrics = ServiceMetrics()
        self._queue: RequestQueue | None = None

    @property
    def queue(self) -> RequestQueue:
        """The queue of requests, of the running event loop."""
        assert self._queue is not None
        return self._queue

    def application(self) -> web.Application:
        """Return the application for aiohttp's runner."""
        application = web.Application(middlewares=[self._guard])
        application.on_response_prepare.append(_add_headers)
        application.on_startup.append(self._start)
        application.on_shutdown.append(self._end)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/gallery.css", self._style),
                web.get("/gallery.js", self._script),
                web.get("/api/models", self._models),
                web.post("/api/images", self._images),
                web.post("/api/classify", self._classify),
                web.get("/healthz", self._health),
                web.get("/metrics", self._measurements),
            ]
        )
        return application

    async def _start(self, application: web.Application) -> None:
        self._queue = RequestQueue(self._networks, self._limits, self.metrics.note_batch)
        self._queue.start()

    async def _end(self, application: web.Application) -> None:
        await self.queue.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Check who asks, and turn every error into one line of JSON."""
        began, status = time.perf_counter(), 499  # the client is gone
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "other"
        try:
            if request.path not in _OPEN:
                check_access(request, self._token)
            response = await handler(request)
            status = response.status
            return response
        except RefusedError as error:
            status = error.status
            return _error(status, error.what, error.headers)
        except web.HTTPException as error:
            status = error.status
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _error(status, (error.reason or "refused").lower(), allowed)
        except Exception as error:
            known = user_error(error)
            status = 503 if known else 500
            tell(redacted(str(known) if known else "".join(traceback.format_exception(error))), level="error")
            what = "the networks do not answer" if known else "the service failed"
            return _error(status, f"{what}; its log says why", {"Retry-After": "10"} if known else {})
        finally:
            self.metrics.note_request(path, status, time.perf_counter() - began)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=render_gallery(), content_type="text/html", charset="utf-8")

    async def _style(self, request: web.Request) -> web.Response:
        return web.Response(text=gallery_style(), content_type="text/css", charset="utf-8")

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=gallery_script(), content_type="text/javascript", charset="utf-8")

    async def _models(self, request: web.Request) -> web.Response:
        limits = {"images": self._limits.images, "steps": self._limits.steps, "upload_bytes": self._limits.upload_bytes}
        return _json({"title": self._title, **asdict(self._offer), "limits": limits})

    async def _images(self, request: web.Request) -> web.Response:
        if self._offer.generator is None:
            raise RefusedError(404, "this service has no generator")
        if request.content_type != "application/json":
            raise RefusedError(415, "the body must be application/json")
        with self.queue.hold():
            body = await _received(request, JSON_BYTES, self._limits)
            wanted = read_drawing_request(body, self._offer.generator.classes, self._limits)
            answer = await self._answered(wanted)
        assert isinstance(answer, DrawnImages)
        settings: dict[str, Json] = {
            "class": self._offer.generator.classes[wanted.label],
            "class_id": wanted.label,
            "first": wanted.first,
        }
        for name, value in wanted.sampling._asdict().items():
            settings[name] = getattr(self._offer.generator, name) if value is None else value
        return _json({**settings, "images": [base64.b64encode(png).decode("ascii") for png in answer.pngs]})

    async def _classify(self, request: web.Request) -> web.Response:
        if self._offer.classifier is None:
            raise RefusedError(404, "this service has no classifier")
        if not request.content_type.startswith("image/") and request.content_type != "application/octet-stream":
            raise RefusedError(415, "the body must be the content of an image file, as image/* or octet-stream")
        with self.queue.hold():
            data = await _received(request, self._limits.upload_bytes, self._limits)
            if not data:
                raise RefusedError(400, "the body is empty; it must be the content of an image file")
            answer = await self._answered(UploadRequest(data))
        assert isinstance(answer, FoundClasses)
        classes = self._offer.classifier.classes
        ranked: list[Json] = [
            {"class": classes[label], "class_id": label, "probability": share} for label, share in answer.ranked
        ]
        return _json({"classes": ranked})

    async def _answered(self, wanted: Request) -> Answer:
        answer = await self.queue.answer(wanted)
        if isinstance(answer, UserError):
            raise RefusedError(422, answer.what)
        return answer

    async def _health(self, request: web.Request) -> web.Response:
        healthy = self.queue.is_open and await asyncio.to_thread(self._networks.is_healthy)
        state = "ok" if healthy else "failing" if self.queue.is_open else "ending"
        content: JsonObject = {"status": state, "held": self.queue.held, "most_held": self._limits.held}
        return _json(content, 200 if healthy else 503)

    async def _measurements(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text(self.queue.held), headers={"Content-Type": CONTENT_TYPE})


async def _received(request: web.Request, most: int, limits: Limits) -> bytes:
    """Return a request's body.

    Raises:
        RefusedError: it is longer than `most` bytes (413) or comes too slowly (408).
    """
    too_long = RefusedError(413, f"the body must have at most {most} bytes", {"Connection": "close"})
    if (request.content_length or 0) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for chunk in request.content.iter_chunked(65_536):
                body += chunk
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {limits.receive_seconds:g} s") from None
    return bytes(body)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _json(content: JsonObject, status: int = 200) -> web.Response:
    return web.Response(
        text=json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n",
        status=status,
        content_type="application/json",
        charset="utf-8",
    )


def _error(status: int, what: str, headers: Mapping[str, str]) -> web.Response:
    response = _json({"error": " ".join(what.split())}, status)
    response.headers.update(headers)
    return response
