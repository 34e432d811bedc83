"""`dpt benchmark gpu`: the comparison with a baseline, and the whole set, rehearsed on the CPU."""

import json
from pathlib import Path

import pytest
import torch

from dpt_ray.benchmark import gpu_suite
from dpt_ray.benchmark.baseline import (
    FORMAT,
    Baseline,
    Figure,
    card_file,
    compare,
    comparison_table,
    read_baseline,
)
from dpt_ray.benchmark.gpu_measurements import TINY
from dpt_ray.benchmark.gpu_suite import MEASUREMENTS, WHOLE_SECONDS, Measurement
from dpt_ray.cli import benchmark_gpu
from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import run_command
from dpt_ray.errors import UserError


def figure(name: str, value: float | None, more: bool = True, note: str | None = None) -> Figure:
    return Figure(name, value, "images/s", more, 100.0, note)


def baseline(*figures: Figure) -> Baseline:
    return Baseline(FORMAT, "NVIDIA H100 80GB HBM3", {"torch": "2"}, list(figures), 1.0)


@pytest.mark.parametrize(
    ("card", "file"),
    [
        ("NVIDIA H100 80GB HBM3", "docs/results/baselines/h100.json"),
        ("NVIDIA H200", "docs/results/baselines/h200.json"),
        ("Tesla V100-SXM2-16GB", "docs/results/baselines/v100.json"),
        ("NVIDIA GeForce RTX 4090", "docs/results/baselines/nvidia-geforce-rtx-4090.json"),
        ("cpu", "docs/results/baselines/cpu.json"),
    ],
)
def test_each_card_has_a_file(card, file):
    assert card_file(card) == file


@pytest.mark.parametrize(
    ("now", "more", "worse"),
    [(96.0, True, False), (94.9, True, True), (200.0, True, False), (104.0, False, False), (106.0, False, True)],
)
def test_more_than_five_percent_is_flagged_in_the_right_direction(now, more, worse):
    (item,) = compare([figure("x", now, more)], baseline(figure("x", 100.0, more)))
    assert item.is_worse is worse
    assert ("SLOWER" in comparison_table([item])) is worse


def test_what_the_baseline_has_and_was_not_measured_is_flagged_and_what_is_new_is_not():
    missing, new = compare([figure("a", None, note="no memory"), figure("b", 3.0)], baseline(figure("a", 2.0)))
    assert missing.is_worse
    assert not new.is_worse
    assert "not measured: no memory" in comparison_table([missing, new])


def test_a_baseline_comes_back_and_a_damaged_or_newer_one_is_one_line(tmp_path):
    file = tmp_path / "h100.json"
    assert read_baseline(str(file)) is None
    written = baseline(figure("a", 2.0), figure("b", None, note="too slow"))
    file.write_text(json.dumps(written.to_json()))
    assert read_baseline(str(file)) == written
    file.write_text(json.dumps({**written.to_json(), "format": 99}))
    with pytest.raises(UserError, match="format 99") as caught:
        read_baseline(str(file))
    assert "--write-baseline" in str(caught.value)
    file.write_text('{"format": 1}')
    with pytest.raises(UserError):
        read_baseline(str(file))


def test_the_baselines_of_this_repository_can_be_read_and_have_names_that_are_measured():
    known = {name for measurement in MEASUREMENTS for name, *_ in measurement.names}
    files = list((Path(__file__).parents[2] / "docs" / "results" / "baselines").glob("*.json"))
    assert files
    for file in files:
        found = read_baseline(str(file))
        assert {each.name for each in found.figures} <= known
        assert file.name == card_file(found.card).rpartition("/")[2]


def test_the_whole_set_fits_its_time_with_compiled_code_at_hand():
    assert sum(measurement.seconds for measurement in MEASUREMENTS) <= WHOLE_SECONDS + 5
    names = [name for measurement in MEASUREMENTS for name, *_ in measurement.names]
    assert len(set(names)) == len(names)


def test_one_measurement_that_fails_or_comes_too_late_ends_no_other(monkeypatch):
    def fails(sizes, device):
        raise RuntimeError("CUDA out of memory")

    given = (
        Measurement((("a", "s", False, None),), fails, 1),
        Measurement((("b", "s", False, None),), lambda sizes, device: (2.0,), 1),
        Measurement((("c", "s", False, None),), lambda sizes, device: (3.0,), WHOLE_SECONDS + 1),
    )
    monkeypatch.setattr(gpu_suite, "MEASUREMENTS", given)
    lines: list[str] = []
    figures = gpu_suite.measure_gpu(rehearse=True, say=lines.append, seconds=WHOLE_SECONDS).figures
    assert [each.value for each in figures] == [None, 2.0, None]
    assert figures[0].note == "CUDA out of memory"
    assert "were left" in figures[2].note
    assert len(lines) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_refuses_in_one_line(capsys):
    assert run_command(dpt, ["benchmark", "gpu"], NAME) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no GPU" in error
    assert "--rehearse" in error


def test_the_exit_status_says_whether_the_card_has_become_slower(tmp_path, monkeypatch, capsys):
    place, output = tmp_path / "h100.json", str(tmp_path / "out")
    command = ["benchmark", "gpu", "--baseline", str(place), "--output", output]

    def measured(value: float) -> int:
        monkeypatch.setattr(benchmark_gpu, "measure_gpu", lambda **_: baseline(figure("a", value)))
        return run_command(dpt, command, NAME)

    assert measured(100.0) == 0  # nothing to compare with
    assert not place.exists()
    command.append("--write-baseline")
    assert measured(100.0) == 0
    assert place.exists()
    command.pop()
    assert measured(97.0) == 0
    assert measured(90.0) == 1
    assert "SLOWER" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["figures"][0]["value"] == 90.0


def test_a_rehearsal_runs_every_measurement_to_the_last_line():
    lines: list[str] = []
    found = gpu_suite.measure_gpu(rehearse=True, say=lines.append)
    assert found.card == "cpu"
    assert {each.name: each.note for each in found.figures if each.value is None} == {}
    assert all(each.value > 0 for each in found.figures)
    assert len(lines) == len(found.figures) == sum(len(measurement.names) for measurement in MEASUREMENTS)
    assert TINY.compiled is False
