"""Fixtures that several kinds of tests share."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

pytest.register_assert_rewrite("store_contract")  # tests that modules of several folders import


@pytest.fixture(scope="session")
def local_ray():
    """A local Ray with 2 CPUs that serves all tests of the session."""
    import ray

    from dpt_ray.config.schema import ClusterConfig
    from dpt_ray.distributed.cluster import connect

    os.environ.pop("RAY_ADDRESS", None)  # a cluster of the user's is not for tests
    # Workers import the classes that tests hand them from the tests' own folders.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [*(str(TESTS / name) for name in ("distributed", "pipeline")), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    connect(ClusterConfig(local_cpus=2))
    yield
    ray.shutdown()
