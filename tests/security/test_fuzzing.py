"""Damaged and forged inputs of every kind give data or one line, within 10 s and 1 GiB each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing.menu import GROUPS

FUZZ = Path(__file__).with_name("fuzz.py")
ALL = sum(map(len, GROUPS.values()))
SEED = 20_260


def fuzz(targets: str, count: int, folder: Path, seed: int = SEED) -> subprocess.CompletedProcess[str]:
    """Feed inputs to targets in a process of its own, with one thread of each library."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(FUZZ), targets, str(count), str(seed), "--folder", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def check(targets: tuple[str, ...], count: int, folder: Path) -> None:
    """Fail with what a process says of the input that it ended at, or with the name that the input lies under."""
    result = fuzz(",".join(targets), count, folder)
    kept = ", ".join(str(place) for place in folder.glob("*-*-*"))
    told = "\n".join([result.stdout, result.stderr[-2000:], f"status {result.returncode}, kept: {kept or 'nothing'}"])
    assert result.returncode == 0, told
    assert result.stdout.count(f": {count} inputs, ") == len(targets), told


@pytest.mark.parametrize("group", GROUPS)
def test_inputs_give_data_or_one_line(group, tmp_path):
    check(GROUPS[group], -(-300 // ALL), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", [name for names in GROUPS.values() for name in names])
def test_many_inputs_give_data_or_one_line(target, tmp_path):
    check((target,), -(-10_000 // ALL), tmp_path)


PLANTED = """
import sys
sys.path[:0] = {paths!r}
import fuzz
from fuzzing import menu, target

fuzz.CPU_SECONDS = 4

def fail(data, folder):
    if data:
        {body}
    return ()

menu.find_target = lambda name: target.Target(lambda: {{"whole": b""}}, {{lambda *given: b"x": 1}}, fail)
sys.exit(fuzz.main())
"""


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("raise KeyError('planted')", 1, "KeyError: 'planted'"),
        ("bytearray(1200 << 20)", 1, "MemoryError"),
        ("bytearray(b'x') * (1000 << 20)", 1, "MemoryError"),
        ("import ctypes; ctypes.string_at(0)", -11, ""),
        ("while True: pass", -27, ""),
        ("return ['two' + chr(10) + 'lines']", 1, "BadComplaintError"),
        ("return ['it takes more memory than there is']", 1, "BadComplaintError"),
    ],
)
def test_what_is_no_data_and_no_line_is_found_and_kept(tmp_path, body, status, told):
    paths = [str(FUZZ.parent)]
    result = subprocess.run(
        [sys.executable, "-c", PLANTED.format(paths=paths, body=body), "planted", "3", "1", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == status, result.stderr
    assert told in result.stdout
    assert [place.name for place in tmp_path.iterdir()] == ["planted-1-0"]
    assert (tmp_path / "planted-1-0").read_bytes() == b"x"


def test_an_input_is_a_function_of_target_seed_and_number(tmp_path):
    script = (
        f"import sys; sys.path[:0] = {[str(FUZZ.parent)]!r}\n"
        "import hashlib; from random import Random; from fuzzing import raw, target, text, trees\n"
        "corpus = {'a': b'one\\ntwo', 'b': b'{\"c\": [1, 2]}'}\n"
        "every = target.Target(dict, {**raw.RAW, **text.TEXT, **trees.JSON}, list)\n"
        "made = [every.make(Random(f'list/1/{n}'), corpus) for n in range(50)]\n"
        "assert len(set(made)) > 40\n"
        "print(hashlib.sha256(b'|'.join(made)).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
