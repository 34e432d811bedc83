"""Fixtures that several kinds of tests share, and which tests run in one process."""

import os
import sys
from pathlib import Path

import pytest

os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a call of Ray in a test without Ray is an error, and starts no cluster

TESTS = Path(__file__).parent
sys.path.append(str(TESTS / "pipeline"))  # `tiny_runs`, for tests of several folders
sys.path.append(str(TESTS / "storage"))  # the object store and the proxy before it

pytest.register_assert_rewrite("store_contract")  # tests that modules of several folders import


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let `--numprocesses` run the tests of one group in one process, in order.

    All tests that start Ray are one group: two Rays on two cores start and compute slowly. Any other file is a group.
    """
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0].removeprefix("tests/"))

    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items):
    """Begin with the tests of Ray, which take longest. Give slow tests more time before they count as hung."""
    items.sort(key=lambda item: _group(item.path.relative_to(TESTS).as_posix()) != _RAY)
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3600))
        if item.get_closest_marker("ray_start") and " " in sys.prefix:
            item.add_marker(pytest.mark.skip("`ray start` does not run from a folder whose path has a space"))


_RAY = "ray"
_WITH_RAY = (
    "cluster/",
    "crash/",
    "distributed/",
    "infra/test_local_run.py",
    "pipeline/",
    "security/test_neighbours.py",
    "storage/test_whole_run_on_s3.py",
)


def _group(file: str) -> str:
    return _RAY if file.startswith(_WITH_RAY) else file


@pytest.fixture(scope="session", autouse=True)
def _scripts_run_here():
    """Let scripts that tests run in this process not fork it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpt_ray.cli.main.supervised", lambda run: run())
        yield


@pytest.fixture(scope="session")
def connect_ray():
    """A function that connects this process to the local Ray of the session, which has 2 CPUs."""
    yield _connect_ray
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def finished(connect_ray, tmp_path_factory):
    """The root of a finished tiny run."""
    from tiny_runs import run_all

    connect_ray()
    root = tmp_path_factory.mktemp("results")
    assert run_all(root) == 0
    return root


@pytest.fixture
def local_ray(connect_ray):
    """The local Ray of the session. It is started again if a job that a test ran in this process has ended it."""
    connect_ray()


def pytest_configure():
    """Let Ray's workers import the classes that tests pass to them from the tests' own folders."""
    paths = [str(TESTS), *(str(TESTS / name) for name in ("distributed", "pipeline"))]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([*(path for path in paths if path not in known), *filter(None, known)])


def _connect_ray() -> None:
    from dpt_ray.config.cluster_section import ClusterConfig
    from dpt_ray.distributed.connection import connect

    os.environ.pop("RAY_ADDRESS", None)  # a cluster of the user's is not for tests
    connect(ClusterConfig(local_cpus=2))
