"""One file uses what Ray does not promise to keep, and a job whose Ray lacks it ends with one line."""

import contextlib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import ray

from dpt_ray.distributed import ray_internals
from dpt_ray.distributed.connection import check_ray_internals
from dpt_ray.errors import UserError

ROOT = Path(__file__).parents[2]
INTERNALS = ROOT / "dpt_ray/distributed/ray_internals.py"
PRIVATE = re.compile(r"\bray(\.\w+)*\.(_\w+|core)\b|from ray(\.\w+)* import _")
"""Names with an underscore, and Ray's generated protocol."""


def private_uses(source: str) -> list[str]:
    return [line.strip() for line in source.splitlines() if PRIVATE.search(line.replace("ray.__version__", ""))]


def test_no_other_file_uses_private_parts_of_ray():
    files = [path for folder in ("dpt_ray", "jobs", "infra", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): private_uses(path.read_text(encoding="utf-8")) for path in files}
    this_file, internals = (str(path.relative_to(ROOT)) for path in (Path(__file__), INTERNALS))
    assert len(found.pop(internals)) > 5
    assert len(found.pop(this_file)) > 5
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "is_private"),
    [
        ("from ray._private.services import find_node_ids", True),
        ("import ray.data._internal.execution as execution", True),
        ("node = ray._private.worker._global_node", True),
        ("from ray.core.generated import gcs_service_pb2", True),
        ("from ray import _raylet", True),
        ("from ray.data import DataContext", False),
        ("from dpt_ray.distributed.local_ray import _use_token", False),
        ("version = ray.__version__", False),
    ],
)
def test_private_parts_are_found(line, is_private):
    assert bool(private_uses(line)) == is_private


def test_this_ray_has_all_that_is_used():
    check_ray_internals()


def test_a_ray_that_lacks_something_is_named_in_one_line(monkeypatch):
    services = importlib.import_module("ray._private.services")
    lacking = ModuleType(services.__name__)
    lacking.canonicalize_bootstrap_address_or_die = services.canonicalize_bootstrap_address_or_die
    monkeypatch.setitem(sys.modules, services.__name__, lacking)
    monkeypatch.delitem(sys.modules, "dpt_ray.distributed.ray_internals", raising=False)
    monkeypatch.delattr("dpt_ray.distributed.ray_internals", raising=False)
    with pytest.raises(UserError) as error:
        check_ray_internals()
    text = str(error.value)
    assert text.startswith(f"Ray {ray.__version__} lacks an internal function that this package uses")
    assert "find_node_ids" in text
    assert "\n" not in text


@pytest.mark.parametrize(("running", "calls"), [(True, 3), (False, 1)])
def test_a_node_that_registers_late_is_waited_for_while_its_raylet_runs(monkeypatch, running, calls):
    services = importlib.import_module("ray._private.services")
    before, left = services.get_node, [{"node": "late"}, RuntimeError("unknown"), RuntimeError("unknown")]

    def get_node(gcs_address, node_id):
        answer = left.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(ray_internals, "get_node", get_node)
    monkeypatch.setattr(ray_internals, "has_started", lambda program: running)
    with ray_internals.patient_start(60), contextlib.nullcontext() if running else pytest.raises(RuntimeError):
        assert services.get_node("127.0.0.1:1", "id") == {"node": "late"}
    assert (len(left), services.get_node) == (3 - calls, get_node)
    services.get_node = before


def test_messages_of_rays_processes_are_not_printed_by_connections_of_this_package():
    worker = importlib.import_module("ray._private.worker")
    before = worker.listen_error_messages
    with ray_internals.unprinted_messages():
        assert worker.listen_error_messages(None, None) is None  # Ray's would need a worker
    assert worker.listen_error_messages is before
