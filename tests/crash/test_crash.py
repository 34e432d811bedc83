"""A process of a run is killed at a drawn moment: the same command comes home, with the same bytes."""

import os
from pathlib import Path

import pytest
from crashing import HEAD, Outcome, artifacts, crash, problems
from draws import draw
from fault_proxy import Fault, FaultProxy
from object_store_server import KEY, REGION, SECRET, ObjectStoreServer
from places import Bucket, Folder, Place
from tiny_runs import described

from dpt_ray.pipeline.graph import in_order
from dpt_ray.tables import text_table

SEEDS = os.environ.get("DPT_CRASH_SEEDS", "100-129")
"""Seeds: a range with both ends, or numbers separated by commas."""


S3_SEEDS = os.environ.get("DPT_CRASH_S3_SEEDS", "100-104")
"""The same for the draws on an object store."""
FAULTS = [
    Fault("PUT .*checkpoints/", "status", times=3, skip=1),
    Fault("PUT .*checkpoints/", "lost", times=1, skip=4),
    Fault("GET .*checkpoints/", "reset", times=2),
    Fault("GET .*network", "status", times=2, status=500, code="InternalError"),
    Fault("GET .*list-type", "status", times=3, skip=2),
    Fault("PUT .*(tar|parquet)", "reset", times=2),
    Fault("HEAD", "status", times=4, skip=10),
    Fault("POST|DELETE", "status", times=2),
]


def _seeds(text: str) -> list[int]:
    if "-" in text:
        first, _, last = text.partition("-")
        return list(range(int(first), int(last) + 1))
    return [int(word) for word in text.split(",")]


@pytest.fixture(scope="module")
def table(request):
    """Outcomes; printed when all draws are done."""
    outcomes: list[Outcome] = []
    yield outcomes
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + text_table([HEAD, *(outcome.row for outcome in outcomes)]))


@pytest.fixture
def store(tmp_path):
    """A bucket of a real object store, behind a proxy that makes faults."""
    server = ObjectStoreServer(tmp_path)
    proxy = FaultProxy(server.url)
    proxy.start()
    client = server.client()
    client.mkdir("crash")
    variables = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    yield Bucket("s3://crash/results", variables, client), proxy
    proxy.stop()
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("seed", _seeds(SEEDS))
def test_a_killed_run_comes_home_with_the_same_bytes(finished, tmp_path, table, seed):
    _come_home(Folder(str(tmp_path)), finished, table, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", _seeds(S3_SEEDS))
def test_a_killed_run_comes_home_from_a_store_that_fails(finished, store, table, seed):
    place, proxy = store
    proxy.inject(*FAULTS)
    _come_home(place, finished, table, seed)
    assert any(request.fault for request in proxy.seen)


def _come_home(place: Place, finished: Path, table: list[Outcome], seed: int) -> None:
    outcome = crash(draw(seed), place)
    table.append(outcome)
    assert problems(outcome) == [], "\n\n".join(outcome.outputs)
    assert outcome.killed, f"its moment did not come: {outcome.drawn.title}"
    made, expected = artifacts(place), artifacts(Folder(str(finished)))
    _, run = described(place.root)
    assert {f"{step.address}/manifest.json" for step in in_order(run.steps())} <= set(made) <= set(expected)
    assert [name for name in made if made[name] != expected[name]] == []
