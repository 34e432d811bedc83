"""The image's health check against servers that answer well, badly, late or not at all."""

import importlib.util
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rendering import REPOSITORY


@pytest.fixture(scope="module")
def healthy():
    spec = importlib.util.spec_from_file_location("healthy", REPOSITORY / "infra/docker/healthy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def agent():
    """A server on the loopback address that answers with the status in its path."""

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path[1:]))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Agent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_node_that_answers_is_well(healthy, agent):
    assert healthy.node_is_well(f"{agent}/200")


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_node_that_answers_otherwise_is_not(healthy, agent, status):
    assert not healthy.node_is_well(f"{agent}/{status}")


def test_a_node_that_is_not_there_or_says_nothing_is_not_well(healthy, monkeypatch):
    monkeypatch.setattr(healthy, "ANSWER_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api/healthz"
        assert not healthy.node_is_well(address)
        silent.listen()
        assert not healthy.node_is_well(address)


@pytest.mark.parametrize(
    ("words", "node"),
    [
        (["/bin/bash", "-c", "--", "ulimit -n 65536; ray start --head --block"], True),
        (["/opt/venv/bin/python", "/opt/venv/bin/ray", "start"], True),
        (["python", "jobs/dpt_full.py"], False),
    ],
)
def test_a_container_is_a_node_if_its_first_process_starts_one(healthy, tmp_path, words, node):
    file = tmp_path / "cmdline"
    file.write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    assert healthy.runs_ray_node(file) is node
