"""One finished run that the tests of the pipeline share."""

import pytest
from tiny_runs import run_all


@pytest.fixture(scope="session")
def finished(connect_ray, tmp_path_factory):
    """The root of a finished tiny run."""
    connect_ray()
    root = tmp_path_factory.mktemp("results")
    assert run_all(root) == 0
    return root
