"""The list of finished units: an interrupted step goes on without fetching what it has made."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from counting_store import CountingStore

from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, Skipped, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.distributed import inference
from dpt_ray.distributed.finished_units import UNITS_FOLDER
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.resources import Resources
from dpt_ray.distributed.units import UnitWorker, UnusableUnitError
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.damage import list_own_files

UNITS = list(range(100))
FOLDER = "counting://step/0"
MANY = 1000
"""Bytes of a file, next to which the list is short."""


class Padded(UnitWorker):
    """Writes a unit's number into a long file; fails where it is told."""

    made: ClassVar[list[int]] = []
    fails: ClassVar[list[int]] = []

    def __init__(self, letter: str, lost: int = -1):
        self._letter, self._lost = letter, lost

    def output_url(self, unit: int) -> str:
        return f"{FOLDER}/files/{unit:05d}.txt"

    def make(self, unit: int) -> bytes:
        if unit in self.fails:
            raise UserError("the power failed")
        if unit == self._lost:
            raise UnusableUnitError([Skipped("the input", None, "is damaged")])
        self.made.append(unit)
        return f"{unit:03d}".encode() + self._letter.encode() * (MANY - 3)

    def facts(self, unit: int, content: bytes) -> dict[str, Any]:
        return {"images": 1, "letter": content[-1:].decode()}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    def made(worker_class: Any, settings: Mapping[str, Any], units: list[bytes], resources: Any) -> Iterator[Any]:
        runner = inference._Runner(worker_class, settings)
        for unit in units:
            yield {name: values[0] for name, values in runner({"unit": [unit]}).items()}

    monkeypatch.setattr(inference, "_made", made)
    CountingStore.store.clear()
    Padded.made.clear()
    Padded.fails.clear()


def run(letter: str = "a", policy: SkipPolicy = TOLERATE_NOTHING, **mischief: int) -> list[dict[str, Any]]:
    Padded.made.clear()
    CountingStore.count_from_here()
    return run_units(
        Padded,
        {"letter": letter, **mischief},
        UNITS,
        resources=Resources(1, 1.0, 0),
        progress=ProgressLine("test", len(UNITS), "images"),
        policy=policy,
        folder=FOLDER,
    )


def lists() -> list[str]:
    return [file["url"] for file in stores.list_files(f"{FOLDER}/{UNITS_FOLDER}")]


@pytest.fixture
def fails() -> list[int]:
    """Units that cannot be made, after a run that unit 90 ended."""
    Padded.fails[:] = [90]
    with pytest.raises(UserError):
        run()
    Padded.fails.clear()
    return Padded.fails


@pytest.mark.usefixtures("fails")
def test_a_finished_unit_is_neither_fetched_nor_made_again():
    undisturbed = [{"url": f"{FOLDER}/files/{n:05d}.txt", "bytes": MANY, "images": 1, "letter": "a"} for n in UNITS]
    facts = run()
    assert Padded.made == UNITS[90:]
    assert CountingStore.fetched < 90 * 400  # the list alone, and not 90 files
    assert [{k: v for k, v in entry.items() if k != "sha256"} for entry in facts] == undisturbed
    assert len({entry["sha256"] for entry in facts}) == len(UNITS)
    for entry in facts:
        assert entry["sha256"] == sha256(stores.read_bytes(entry["url"]))


def test_the_entry_of_a_file_that_is_gone_cannot_count_for_another_one(fails):
    CountingStore().rm_file(f"{FOLDER}/files/00007.txt")
    CountingStore().pipe_file(f"{FOLDER}/files/00008.txt", b"cut")
    fails.append(7)
    with pytest.raises(UserError):
        run()
    other = b"999" + b"z" * (MANY - 3)
    CountingStore().pipe_file(f"{FOLDER}/files/00007.txt", other)
    fails.clear()
    facts = run()
    assert facts[7]["sha256"] == sha256(other)
    assert facts[8]["bytes"] == len(b"cut")  # a file that is there is adopted, as one that is on no list
    assert Padded.made == UNITS[90:]


@pytest.mark.usefixtures("fails")
def test_other_settings_and_cut_lines_cost_reading_alone():
    (listed,) = lists()
    content = stores.read_bytes(listed)
    stores.write_bytes(listed, content[: len(content) // 2] + b"\nno JSON\n[]\n{}\n" + content[:40])
    facts = run()
    assert Padded.made == UNITS[90:]
    assert 40 * MANY < CountingStore.fetched < 60 * MANY
    assert [entry["letter"] for entry in facts] == ["a"] * len(UNITS)
    CountingStore.count_from_here()
    assert [entry["letter"] for entry in run(letter="b")] == ["a"] * len(UNITS)  # adopted, as before
    assert CountingStore.fetched >= 100 * MANY


def test_a_unit_without_a_file_is_tried_again_and_a_short_step_leaves_no_list():
    tolerant = SkipPolicy(allowed_share=0.5)
    assert run(policy=tolerant, lost=3)[3]["images"] == 0
    assert lists() == []
    assert run()[3]["images"] == 1
    assert Padded.made == [3]


@pytest.mark.usefixtures("fails")
def test_the_list_is_no_file_of_the_artifact():
    assert lists()
    assert set(list_own_files(FOLDER)) == {f"files/{n:05d}.txt" for n in UNITS[:90]}
    entry = json.loads(stores.read_bytes(lists()[0]).splitlines()[0])
    assert set(entry) == {"number", "unit", "facts"}
