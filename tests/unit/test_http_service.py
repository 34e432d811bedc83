"""The gallery's HTTP interface on a real socket: answers, refusals, load, and the end."""

import base64
import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from exported_runs import CLASSES, write_run
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from running_service import GatedNetworks, running_service

import dpt_ray
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.errors import TryAgainError, UserError
from dpt_ray.serving.limits import Limits
from dpt_ray.serving.serve_models import find_exports
from dpt_ray.serving.served_networks import ServedNetworks

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> tuple[str, str]:
    torch.set_num_threads(1)
    run = write_run(tmp_path_factory.mktemp("results"))[0]
    return find_exports([run], str(tmp_path_factory.mktemp("exports")))


@pytest.fixture(scope="module")
def service(exports):
    with running_service(ServedNetworks(*exports)) as running:
        yield running


@pytest.fixture
def gated():
    networks = GatedNetworks()
    with running_service(networks, Limits(held=6, batch=8, images=4)) as running:
        yield running, networks
        networks.gate.set()


def measured(running) -> dict[tuple[str, ...], float]:
    text = running.ask("GET", "/metrics").body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_images_are_the_generator_s(service, exports):
    answer = service.draw(**{"class": "cat", "images": 3, "first": 2, "seed": 9, "guidance_scale": 0.5, "steps": 4})
    assert answer.status == 200
    settings = {name: value for name, value in answer.json.items() if name != "images"}
    assert settings == {
        "class": "cat",
        "class_id": 2,
        "first": 2,
        "seed": 9,
        "guidance_scale": 0.5,
        "steps": 4,
        "sampler": "dpm_solver_pp_2m",
    }
    drawn = [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in answer.json["images"]]
    expected = dpt_ray.load_generator(exports[0]).sample([2] * 3, first=2, seed=9, guidance_scale=0.5, steps=4).numpy()
    assert np.abs(np.stack(drawn).astype(int) - expected[:, 0]).max() <= 1


def test_an_image_gets_its_classes(service, exports):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8), np.uint8)
    answer = service.classify(encode_png(pixels))
    assert answer.status == 200
    shares = dpt_ray.load_classifier(exports[1]).probabilities(pixels)[0].numpy()
    found = answer.json["classes"]
    assert [entry["class_id"] for entry in found] == list(np.argsort(-shares))
    assert [entry["probability"] for entry in found] == pytest.approx(sorted(shares, reverse=True), abs=1e-6)
    assert [entry["class"] for entry in found] == [CLASSES[entry["class_id"]] for entry in found]


def test_the_page_and_its_files_load_nothing_from_elsewhere(service):
    page = service.ask("GET", "/")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"<script src=" in page.body
    for path, kind in (("/gallery.css", "text/css"), ("/gallery.js", "text/javascript")):
        answer = service.ask("GET", path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in answer.body


JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "says"),
    [
        ("GET", "/no/such/page", None, {}, 404, "not found"),
        ("GET", "/api/images", None, {}, 405, "method not allowed"),
        ("POST", "/api/images", b"{}", {"Content-Type": "text/plain"}, 415, "must be application/json"),
        ("POST", "/api/images", b"{", JSON, 400, "the body is no JSON"),
        ("POST", "/api/images", b'{"class": "x\\ny"}', JSON, 400, "there is no class"),
        ("POST", "/api/images", b'{"class": 0, "sampler": "nix"}', JSON, 422, "sampler = 'nix' is not allowed"),
        ("POST", "/api/images", b" " * 70_000, JSON, 413, "at most 65536 bytes"),
        ("POST", "/api/classify", b"", PNG, 400, "the body is empty"),
        ("POST", "/api/classify", b"no image", PNG, 422, ""),
        ("POST", "/api/classify", b"x", {"Content-Type": "multipart/form-data; boundary=b"}, 415, "image file"),
        ("POST", "/api/classify", b"x" * (10 * 2**20 + 1), PNG, 413, "at most 10485760 bytes"),
        ("GET", "/api/models", None, {"Host": "rebound.example"}, 403, "localhost and 127.0.0.1 alone"),
        ("GET", "/api/models", None, {"Origin": "https://other.example"}, 403, "pages of other sites"),
        ("GET", "/metrics", None, {"Host": "rebound.example:80"}, 403, "without a token"),
    ],
)
def test_what_is_wrong_is_one_line_of_json(service, method, path, body, headers, status, says):
    answer = service.ask(method, path, body, headers)
    assert answer.status == status
    assert answer.body.count(b"\n") == 1
    assert says in answer.json["error"]
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert service.ask("GET", "/healthz").json == {"status": "ok", "held": 0, "most_held": 32}


def test_a_body_without_a_length_is_bounded_too(service):
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
    connection.request("POST", "/api/images", iter([b" " * 10_000] * 7), JSON, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_that_does_not_come_is_given_up():
    networks = GatedNetworks()
    with running_service(networks, Limits(receive_seconds=0.2)) as running:
        with socket.create_connection((urlsplit(running.url).hostname, urlsplit(running.url).port), timeout=30) as raw:
            raw.sendall(b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
            raw.sendall(b"Content-Length: 100\r\n\r\nhalf")
            assert b" 408 " in raw.recv(1000).partition(b"\r\n")[0]
        assert networks.batches == []


def test_with_a_token_nothing_is_told_without_it():
    networks = GatedNetworks()
    networks.gate.set()
    with running_service(networks, token=TOKEN) as running:
        for path in ("/", "/gallery.css", "/gallery.js", "/healthz"):
            answer = running.ask("GET", path)
            assert answer.status == 200
            assert TOKEN.encode() not in answer.body
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            for method, path in (("GET", "/api/models"), ("GET", "/metrics"), ("POST", "/api/images")):
                refused = running.ask(method, path, None, headers)
                assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert running.ask("GET", "/metrics", None, right).status == 200
        assert running.draw({**right, "Host": "gallery.example"}, **{"class": 0}).status == 200
        assert len(networks.batches) == 1


def test_beyond_the_queue_is_429_and_all_that_is_held_is_answered(gated):
    running, networks = gated
    with ThreadPoolExecutor(6) as pool:
        held = [pool.submit(running.draw, **{"class": number % 2, "images": 2, "first": number}) for number in range(6)]
        wait_for(lambda: running.ask("GET", "/healthz").json["held"] == 6)
        refused = [running.draw(**{"class": 0}), running.classify(b"x")]
        assert [(answer.status, "Retry-After" in answer.headers) for answer in refused] == [(429, True)] * 2
        assert "6 requests are held already" in refused[0].json["error"]
        networks.gate.set()
        answers = [each.result() for each in held]
    assert [answer.status for answer in answers] == [200] * 6
    for number, answer in enumerate(answers):
        texts = [base64.b64decode(png).decode() for png in answer.json["images"]]
        assert texts == [f"{number % 2} {number}", f"{number % 2} {number + 1}"]
    assert max(sum(request.images for request in batch) for batch in networks.batches) <= 8
    assert len(networks.batches) < 6
    assert running.ask("GET", "/healthz").json["held"] == 0


def test_under_load_every_request_is_answered_rightly_and_none_is_lost(exports):
    """More clients than places: each tries again after a 429, as `Retry-After` asks, only sooner."""
    expected = dpt_ray.load_generator(exports[0]).sample(range(3), seed=1, steps=2).numpy()[:, 0].astype(int)
    png = encode_png(np.zeros((1, 8, 8), np.uint8))
    with running_service(ServedNetworks(*exports), Limits(held=4, batch=8)) as running:

        def client(number: int) -> tuple[int, bool]:
            for tries in range(10_000):
                draws = number % 3 != 2
                wanted = {"class": number % 3, "images": 1, "seed": 1, "steps": 2}
                answer = running.draw(**wanted) if draws else running.classify(png)
                if answer.status == 429:
                    assert 1 <= int(answer.headers["Retry-After"]) <= 60
                    continue
                if not draws:
                    return tries, answer.status == 200 and len(answer.json["classes"]) == 3
                image = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json["images"][0]))))
                return tries, answer.status == 200 and np.abs(image.astype(int) - expected[number % 3]).max() <= 1
            raise AssertionError("never answered")

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(client, range(96)))
        counted = measured(running)
    assert all(right for _, right in answers)
    refused = sum(tries for tries, _ in answers)
    assert refused > 0
    by_status = {
        status: sum(n for key, n in counted.items() if key[0] == "dpt_serve_requests_total" and key[2] == status)
        for status in ("200", "429")
    }
    assert by_status == {"200": 96, "429": refused}
    assert counted[("dpt_serve_batch_images_sum",)] == 96
    assert counted[("dpt_serve_batch_images_count",)] <= 96
    assert counted[("dpt_serve_held_requests",)] == 0


def test_the_end_answers_what_is_held_and_takes_nothing_more(gated):
    running, networks = gated
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(running.draw, **{"class": 0, "seed": number}) for number in range(3)]
        wait_for(lambda: running.service.queue.held == 3)
        running.end()
        wait_for(lambda: not running.service.queue.is_open)
        with pytest.raises(OSError, match=r".*"):
            running.draw(**{"class": 0})
        networks.gate.set()
        assert [each.result().status for each in held] == [200] * 3
    running.thread.join(30)
    assert not running.thread.is_alive()


def test_a_client_that_leaves_gives_its_place_up(gated):
    running, networks = gated
    first = threading.Thread(target=running.draw, kwargs={"class": 0, "seed": 1})
    first.start()
    assert networks.begun.acquire(timeout=30)
    body = json.dumps({"class": 0, "seed": 2}).encode()
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc)
    connection.request("POST", "/api/images", body, JSON)
    wait_for(lambda: running.service.queue.held == 2)
    connection.close()
    wait_for(lambda: running.service.queue.held == 1)
    networks.gate.set()
    first.join(30)
    assert [request.sampling.seed for batch in networks.batches for request in batch] == [1]


def test_an_answer_that_takes_too_long_is_504():
    networks = GatedNetworks()
    with running_service(networks, Limits(answer_seconds=0.2)) as running:
        assert running.draw(**{"class": 0}).status == 504
        networks.gate.set()


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [(ZeroDivisionError("secret"), 500, "the service failed"), (TryAgainError("died"), 503, "do not answer")],
)
def test_a_failure_is_told_in_the_log_and_not_to_the_client(error, status, says, capsys):
    class Failing(GatedNetworks):
        def answer(self, requests):
            raise error

    with running_service(Failing()) as running:
        answer = running.draw(**{"class": 0})
    assert answer.status == status
    assert says in answer.json["error"]
    assert "secret" not in answer.json["error"]
    assert str(error) in capsys.readouterr().out


def test_networks_that_fail_are_not_healthy(gated):
    running, networks = gated
    networks.healthy = False
    answer = running.ask("GET", "/healthz")
    assert (answer.status, answer.json["status"]) == (503, "failing")


def test_one_request_that_cannot_be_drawn_does_not_spoil_the_others(exports, monkeypatch):
    networks = ServedNetworks(*exports)
    sample = networks._generator.sample_numbered

    def sampled(places, **settings):
        if any(label == 1 for label, _ in places):
            raise UserError("the images diverge")
        return sample(places, **settings)

    monkeypatch.setattr(networks._generator, "sample_numbered", sampled)
    from dpt_ray.serving.service_requests import DrawingRequest, Sampling

    wanted = [DrawingRequest(Sampling(None, None, 2, None), label, 0, 1) for label in range(3)]
    answers = networks.answer(wanted)
    assert [isinstance(answer, UserError) for answer in answers] == [False, True, False]


def test_exports_are_told_apart(exports):
    assert find_exports([exports[1], exports[0]], "/nowhere") == exports
    assert find_exports([exports[1]], "/nowhere") == (None, exports[1])
    with pytest.raises(UserError, match="is a second generator; give one generator, one classifier, or both"):
        find_exports([exports[0], exports[0]], "/nowhere")
    with running_service(ServedNetworks(None, exports[1])) as running:
        assert running.draw(**{"class": 0}).json["error"] == "this service has no generator"
        assert running.ask("GET", "/api/models").json["generator"] is None


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
