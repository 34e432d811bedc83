"""The start of a search of 64 trials: few requests to the store, and no more trials than there is memory for."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from counting_store import CountingStore
from made_up_search import Runs, tune_config

from dpt_ray.capacity.trial_memory import PROCESS_BYTES, TRIAL_PROCESSES, trial_bytes
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.load import load_config
from dpt_ray.data.storage import stores
from dpt_ray.distributed import ray_internals, tuning
from dpt_ray.experiments.search.room import room_for
from dpt_ray.experiments.search.search import Search
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts import claims
from dpt_ray.pipeline.artifacts.claims import CLAIM_FILE
from dpt_ray.pipeline.artifacts.store import ArtifactStore

ROOT = "counting://search-start"
TRIALS, MINUTE = 64, 60.0
MOST_CALLS = 2000


class OverError(Exception):
    """A minute is over."""


class Waiting:
    """A minute of a trial that waits for another job, which renews its claim; nothing really sleeps."""

    def __init__(self, claim: str):
        self.now, self._claim = 0.0, claim
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        if self.now > MINUTE:
            raise OverError
        path = CountingStore._strip_protocol(self._claim)
        holder = {"host": "elsewhere", "process": 1, "token": "theirs", "renewed": self.now}
        CountingStore.store[path].seek(0)
        CountingStore.store[path].truncate()
        CountingStore.store[path].write(stores.json_bytes(holder))

    def as_time(self) -> SimpleNamespace:
        return SimpleNamespace(sleep=self.sleep, monotonic=lambda: self.now, time=lambda: self.now)


def started(monkeypatch: pytest.MonkeyPatch, concurrent: int) -> list[Any]:
    """Start a search; return the jobs of the trials that run at first."""
    CountingStore.store.clear()
    jobs: list[Any] = []

    def take(body: Any, events: Any, **_: Any) -> None:
        jobs.extend(events.next_job()[1] for _ in range(concurrent))

    runs = Runs(monkeypatch, lambda trial: {})
    runs.concurrent = concurrent
    monkeypatch.setattr(tuning, "run_trials", take)
    space = {"sampling.guidance_scale": {"grid": [number / 100 for number in range(TRIALS // 4)]}}
    CountingStore.count_from_here()
    Search(tune_config(space, seeds=[0, 1, 2, 3]), [f"root={ROOT}"]).run(runs.said.append)
    assert f"{TRIALS} trials to run, {concurrent} at the same time" in runs.said
    return jobs


def test_64_trials_make_few_requests_in_their_first_minute(monkeypatch):
    jobs = started(monkeypatch, TRIALS)
    by_driver = CountingStore.calls.total()
    first = jobs[0].trial.steps[0]
    claim = stores.join(ArtifactStore(ROOT).folder(first.name, first.fingerprint), CLAIM_FILE)
    CountingStore().pipe_file(claim, b"{}")
    pauses = []
    for job in jobs:
        waiting = Waiting(claim)
        waiting.sleep(0.0)
        monkeypatch.setattr(claims, "time", waiting.as_time())
        with pytest.raises(OverError):
            graph.make_all([job.trial.run.evaluation], ArtifactStore(job.root), ClusterConfig(), lambda text: None)
        pauses = waiting.pauses[1:]
    total = CountingStore.calls.total()
    assert by_driver <= 400
    assert total - by_driver >= TRIALS * 5  # they were counted
    assert total <= MOST_CALLS
    assert pauses == sorted(pauses)


def test_pauses_grow_to_15_seconds(monkeypatch):
    waiting = Waiting(f"{ROOT}/claims/{CLAIM_FILE}")
    CountingStore().pipe_file(waiting._claim, b"{}")
    waiting.sleep(0.0)
    monkeypatch.setattr("test_search_start.MINUTE", 600.0)
    monkeypatch.setattr(claims, "time", waiting.as_time())
    with pytest.raises(OverError), claims.Claim(f"{ROOT}/claims", lambda: False, lambda holder: None):
        pass
    assert waiting.pauses[1] == 1.0
    assert max(waiting.pauses) == waiting.pauses[-1] == 15.0
    ends = [sum(waiting.pauses[:number]) for number in range(1, len(waiting.pauses))]
    assert all(pause <= max(1.0, 0.26 * end + 1) for pause, end in zip(waiting.pauses[1:], ends, strict=True))


@pytest.fixture
def nodes(monkeypatch):
    """Make the cluster have nodes of so many CPUs and GiB."""

    def set_nodes(*sizes: tuple[float, float]) -> None:
        listed = [
            {"NodeID": str(n), "Alive": True, "Resources": {"CPU": cpus, "memory": gib * 2**30}}
            for n, (cpus, gib) in enumerate(sizes)
        ]
        monkeypatch.setattr(ray, "nodes", lambda: listed)
        monkeypatch.setattr(ray_internals, "draining_nodes", dict)

    return set_nodes


@pytest.mark.parametrize(
    ("sizes", "changes", "runs", "words"),
    [
        ([(64, 100)], {"trial_gib": 4}, 25, "25 at the same time (memory allows no more, at 4.0 GiB a trial)"),
        ([(64, 7), (64, 7)], {"trial_gib": 4}, 2, "memory"),  # of each node 3 GiB are left
        ([(64, 1)], {"trial_gib": 4}, 1, "memory"),  # one always runs
        ([(4, 1000)], {"trial_gib": 4}, 4, "4 at the same time (CPUs and GPUs allow no more)"),
        ([(64, 1000)], {"trial_gib": 4, "max_concurrent": 3}, 3, "3 at the same time"),
        ([(64, 20)], {}, 9, "memory allows no more"),  # digits: two GiB and little more
    ],
)
def test_as_many_trials_as_there_is_memory_for(nodes, sizes, changes, runs, words):
    nodes(*sizes)
    tune = tune_config({"sampling.steps": {"grid": [4]}}, **changes)
    room = room_for(tune, load_config(None, ["preset=digits"]), left=TRIALS)
    assert room.runs == runs
    assert words in str(room)


def test_the_memory_of_a_trial_grows_with_its_networks_and_workers():
    small, two = (trial_bytes(load_config(None, ["preset=digits", *more])) for more in ([], ["cluster.workers=2"]))
    large = trial_bytes(load_config(None, ["preset=digits", "stage1.model.width=512"]))
    assert TRIAL_PROCESSES * PROCESS_BYTES < small < two < small * 1.5
    assert large > small
