"""Compiled code is kept: another process with an empty folder takes it from the archive, and damage is told."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
import torch

from dpt_ray.distributed import compiled_code
from dpt_ray.distributed.compiled_code import CHECKSUM_BYTES, CompiledCode, code_key

PROGRAM = """
import sys
import torch
from dpt_ray.distributed.compiled_code import CompiledCode

code = CompiledCode(sys.argv[1], torch.device("cpu"), print)
code.load()
function = torch.compile(lambda x: (x.sin() * 3 + x).sum(0))
assert torch.allclose(function(torch.ones(8, 4)), (torch.ones(8, 4).sin() * 3 + 1).sum(0))
code.save()
from torch._dynamo.utils import counters
print("hits", counters["inductor"]["fxgraph_cache_hit"], "misses", counters["inductor"]["fxgraph_cache_miss"])
"""


def run(place: str, own_folder: str) -> str:
    command = [sys.executable, "-c", PROGRAM, place]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": own_folder, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_second_process_takes_compiled_code_from_the_archive(tmp_path):
    place = tmp_path / "code"
    assert run(str(place), str(tmp_path / "first")) == "hits 0 misses 1"
    (archive,) = place.glob("*/*")
    content = archive.read_bytes()
    assert hashlib.sha256(content[CHECKSUM_BYTES:]).digest() == content[:CHECKSUM_BYTES]
    written = archive.stat().st_mtime_ns
    assert run(str(place), str(tmp_path / "second")) == "hits 1 misses 0"
    assert archive.stat().st_mtime_ns == written  # the same code is not stored again


def test_a_damaged_archive_is_told_and_not_loaded(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", loaded.append)
    folder = tmp_path / code_key(torch.device("cpu"))
    folder.mkdir()
    archive = folder / "00.compiled"
    archive.write_bytes(bytes(CHECKSUM_BYTES) + b"something else")
    lines: list[str] = []
    CompiledCode(str(tmp_path), torch.device("cpu"), lines.append).load()
    assert loaded == []
    assert len(lines) == 1
    assert "checksum is wrong" in lines[0]
    archive.write_bytes(hashlib.sha256(b"code").digest() + b"code")
    CompiledCode(str(tmp_path), torch.device("cpu"), lines.append).load()
    assert loaded == [b"code"]
    monkeypatch.setattr(compiled_code, "MOST_BYTES", 10)
    CompiledCode(str(tmp_path), torch.device("cpu"), lines.append).load()
    assert loaded == [b"code"]
    assert "beyond" in lines[1]


def test_without_a_place_nothing_is_stored_or_loaded(monkeypatch):
    def never(*_):
        raise AssertionError("called")

    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", never)
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", never)
    code = CompiledCode(None, torch.device("cpu"), never)
    code.load()
    code.save()


def test_another_version_or_card_has_another_archive(monkeypatch):
    here = code_key(torch.device("cpu"))
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert code_key(torch.device("cpu")) != here
