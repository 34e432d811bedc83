"""Jobs on unequal nodes get what fits one node, and a head without CPUs counts for nothing."""

import json

from ray_nodes import run_program


def test_what_jobs_get_fits_single_nodes():
    found = json.loads(run_program("unequal_nodes.py", seconds=180).stdout.splitlines()[-1])
    assert found["nodes"] == [0, 1, 3]
    assert found["training"] == {"processes": 1, "cpus": 2.0, "gpus": 0}
    assert found["readers"] == [2, 1.0]
    assert found["inference"] == {"processes": 4, "cpus": 1.0, "gpus": 0.0}
    assert found["object_store"] == 2
    assert found["seconds"] < 10
    assert found["refusal"].startswith(
        "cluster: 2 workers of 1.75 CPUs each and a reader of 0.25 CPUs do not fit on the nodes: "
        "1 node of 3 CPUs for 1, 1 node of 1 CPUs for 0; lower cluster.workers"
    )
