"""RAY_ADDRESS names many things that are no cluster: each is reported in one line, in less than 20 seconds."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
import ray

from dpt_ray.distributed import address as address_module
from dpt_ray.distributed import ray_internals
from dpt_ray.distributed.address import check_address, named_address
from dpt_ray.distributed.ray_internals import gcs_service_pb2, gcs_service_pb2_grpc
from dpt_ray.errors import UserError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Wait less than a job does: the servers are on this machine."""
    waits = ("NAME_SECONDS", "CONNECT_SECONDS", "ANSWER_SECONDS", "PAGE_SECONDS", "NODE_SECONDS")
    assert sum(getattr(address_module, name) for name in waits) < 20
    monkeypatch.setattr(address_module, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(address_module, "NODE_SECONDS", 0.1)
    monkeypatch.setattr(address_module, "PAGE_SECONDS", 0.5)


def _refusal(address: str) -> str:
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        check_address(address)
    assert time.monotonic() - began < 20
    text = str(error.value)
    assert text.startswith(f"RAY_ADDRESS={address}: ")
    assert ";" in text  # what to do
    return text


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8265", "is the address of a dashboard or job server, not of the cluster"),
        ("https://ray.example.org", "is the address of a dashboard or job server"),
        ("ray://127.0.0.1:10001", "is an address of Ray Client"),
        ("redis://127.0.0.1:6379", "is not of the form host:port"),
        ("127.0.0.1", "is not of the form host:port"),
        ("127.0.0.1:6379/path", "is not of the form host:port"),
        (":6379", "is not of the form host:port"),
        ("::1:6379", "is not of the form host:port"),
        ("127.0.0.1:", "nothing is no port"),
        ("127.0.0.1:port", "port is no port"),
        ("127.0.0.1:0", "0 is no port"),
        ("127.0.0.1:65536", "65536 is no port"),
        ("127.0.0.1:\uff16\uff13", "is no port"),
        ("no-such-host.invalid:6379", "the name no-such-host.invalid is not known"),
        ("." * 300 + ":6379", "is not known"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_called_what_it_is(address, expected):
    assert expected in _refusal(address)


def test_a_closed_port_is_refusal():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no Ray cluster can be reached there (Connection refused); start one with" in _refusal(f"127.0.0.1:{port}")


def test_a_name_that_takes_too_long_to_look_up_is_refusal(monkeypatch):
    monkeypatch.setattr(address_module, "NAME_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    assert "the name slow.example is not known: no answer came in time" in _refusal("slow.example:6379")


@contextmanager
def _listener(serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[str]:
    """A server that does something with each connection; its address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kept: list[socket.socket] = []
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                serve(connection)

        threading.Thread(target=run, daemon=True).start()
        try:
            yield f"[{host}]:{server.getsockname()[1]}" if ":" in host else f"{host}:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


SERVERS = {
    "silent": (lambda connection: None, "the server there accepts connections but sends nothing for 1 s"),
    "closes": (lambda connection: connection.close(), "the server there does not speak Ray's protocol"),
    "greets": (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"), "does not speak Ray's protocol"),
    "redis": (lambda connection: connection.sendall(b"-ERR unknown command\r\n"), "does not speak Ray's protocol"),
}


@pytest.mark.parametrize(("serve", "expected"), SERVERS.values(), ids=SERVERS.keys())
def test_what_listens_and_is_no_cluster_is_refusal(serve, expected):
    with _listener(serve) as address:
        assert expected in _refusal(address)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_address_of_ipv6_is_tried():
    try:
        with _listener(lambda connection: connection.close(), "::1") as address:
            assert "does not speak Ray's protocol" in _refusal(address)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")


@pytest.mark.parametrize(
    ("path", "status", "body", "expected"),
    [
        ("/api/gcs_healthz", 200, b"success", "is the port of a dashboard or job server, not of the cluster"),
        ("/api/gcs_healthz", 503, b"Health check failed due to: GCS process down.", "is the port of a dashboard"),
        ("/", 200, b"<html>Welcome</html>", "a web server answers there, which does not speak Ray's protocol"),
        ("/", 401, b"Unauthorized", "a web server answers there"),
    ],
)
def test_a_web_server_is_refusal_from_rays_dashboard(path, status, body, expected):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if path in ("/", self.path) else 404)
            self.end_headers()
            self.wfile.write(body if path in ("/", self.path) else b"nothing here")

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert expected in _refusal(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


class _Store(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """Ray's control store, as far as a check uses it."""

    def __init__(self, version: str, alive: bool, code: grpc.StatusCode | None = None):
        self._version, self._alive, self._code = version, alive, code

    def CheckAlive(self, request: gcs_service_pb2.CheckAliveRequest, context):  # noqa: N802 - named by Ray
        if self._code is not None:
            context.abort(self._code, "no")
        return gcs_service_pb2.CheckAliveReply(ray_version=self._version, raylet_alive=[self._alive])


@contextmanager
def _grpc_server(store: _Store | None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    if store is not None:
        gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(store, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (None, "another server than Ray's control store answers at that port, by the same protocol (gRPC)"),
        (_Store("2.1.0", True), f"that cluster runs Ray 2.1.0, and this is Ray {ray.__version__}"),
        (_Store(ray.__version__, False), "no node of that cluster runs on this machine"),
        (
            _Store("", False, grpc.StatusCode.UNAUTHENTICATED),
            "that cluster requires a token, and this process sends none; set RAY_AUTH_MODE=token",
        ),
    ],
)
def test_what_speaks_rays_protocol_and_cannot_be_joined_is_refusal(monkeypatch, store, expected):
    monkeypatch.setattr(ray_internals, "sends_token", lambda: False)
    with _grpc_server(store) as address:
        assert expected in _refusal(address)


def test_a_token_that_is_refused_is_not_called_missing(monkeypatch):
    monkeypatch.setattr(ray_internals, "sends_token", lambda: True)
    with _grpc_server(_Store("", False, grpc.StatusCode.UNAUTHENTICATED)) as address:
        assert "that cluster refuses the token of this process" in _refusal(address)


def test_a_cluster_with_a_node_on_this_machine_is_joined():
    with _grpc_server(_Store(ray.__version__, True)) as address:
        check_address(address)


@pytest.mark.parametrize(
    ("value", "named"), [(None, None), ("", None), ("  ", None), ("local", None), (" 1.2.3.4:6379\n", "1.2.3.4:6379")]
)
def test_an_empty_address_is_this_machine(monkeypatch, value, named):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_ADDRESS", value)
    assert named_address() == named
