"""Batch inference by units: complete, resumable, independent of workers, honest about failures."""

import os
from pathlib import Path
from typing import Any

import pytest

from dpt_ray.data.storage import stores
from dpt_ray.distributed import inference
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.lost_inference import MEMORY_FIX
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.resources import Resources
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.errors import TryAgainError, UserError

UNITS = list(range(6))


class Squares(UnitWorker):
    """Writes a unit's square; misbehaves on unit 3 as told."""

    def __init__(self, folder: str, mischief: str = "none"):
        self._folder, self._mischief = folder, mischief

    def output_url(self, unit: int) -> str:
        return stores.join(self._folder, f"{unit}.txt")

    def make(self, unit: int) -> bytes:
        if unit == 3 and (self._mischief == "refuse" or stores.exists(self._folder + "/refuse")):
            raise UserError("cannot be squared", where="unit 3")
        if unit == 3 and self._mischief == "die once" and not stores.exists(self._folder + "/died"):
            stores.write_bytes(self._folder + "/died", b"")
            os._exit(1)
        if unit == 3 and self._mischief == "die":
            os._exit(1)
        if unit == 3 and self._mischief == "need memory":
            raise MemoryError("900 GiB")
        return str(unit**2).encode()

    def facts(self, unit: int, content: bytes) -> dict[str, Any]:
        return {"images": 1, "square": int(content)}


def _run(folder, processes: int = 2, mischief: str = "none", listed: str | None = None):
    return run_units(
        Squares,
        {"folder": str(folder), "mischief": mischief},
        UNITS,
        resources=Resources(processes, 1.0, 0),
        progress=ProgressLine("test", len(UNITS), "images"),
        folder=listed,
    )


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("processes", [1, 2])
def test_every_unit_gives_its_file_and_facts_in_order(tmp_path, processes):
    facts = _run(tmp_path, processes)
    assert [fact["square"] for fact in facts] == [unit**2 for unit in UNITS]
    assert [Path(fact["url"]).read_bytes() for fact in facts] == [str(unit**2).encode() for unit in UNITS]


@pytest.mark.usefixtures("local_ray")
def test_a_block_of_several_units_makes_each_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "num_blocks", lambda units, processes: 4)
    assert [fact["square"] for fact in _run(tmp_path)] == [unit**2 for unit in UNITS]


@pytest.mark.usefixtures("local_ray")
def test_a_finished_unit_is_adopted_and_not_made_again(tmp_path):
    (tmp_path / "2.txt").write_text("1234")
    assert [fact["square"] for fact in _run(tmp_path)] == [0, 1, 1234, 9, 16, 25]


@pytest.mark.usefixtures("local_ray")
def test_a_resume_reads_the_list_and_not_the_files(tmp_path):
    (tmp_path / "refuse").touch()
    with pytest.raises(UserError, match="cannot be squared"):
        _run(tmp_path, listed=str(tmp_path))
    (tmp_path / "refuse").unlink()
    listed = [file.stem for file in tmp_path.glob("*.txt")]
    (tmp_path / "2.txt").write_text("9")  # of the same length, and not looked at
    assert [fact["square"] for fact in _run(tmp_path, listed=str(tmp_path))] == [unit**2 for unit in UNITS]
    assert {"0", "1", "2"} <= set(listed)


@pytest.mark.usefixtures("local_ray")
def test_a_killed_process_costs_nothing_but_its_unit(tmp_path):
    assert [fact["square"] for fact in _run(tmp_path, mischief="die once")] == [unit**2 for unit in UNITS]
    assert (tmp_path / "died").exists()


@pytest.mark.usefixtures("local_ray")
def test_a_workers_complaint_reaches_the_caller_as_it_was_said(tmp_path):
    with pytest.raises(UserError, match=r"^unit 3: cannot be squared$"):
        _run(tmp_path, mischief="refuse")


@pytest.mark.usefixtures("local_ray")
def test_memory_that_is_not_enough_is_one_line_with_the_settings_to_lower(tmp_path):
    with pytest.raises(UserError) as refused:
        _run(tmp_path, mischief="need memory")
    assert str(refused.value) == (f"a process of inference ran out of memory (900 GiB); {MEMORY_FIX}")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_process_that_dies_again_and_again_is_one_line(tmp_path):
    with pytest.raises(TryAgainError, match="a process of inference died again and again"):
        _run(tmp_path, mischief="die")
