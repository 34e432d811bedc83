"""The folder of a run in an object store: it grows by rewriting, and is found, shown as newest and removed there."""

import json

from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import publish
from dpt_ray.pipeline import jobs
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.collect_garbage import find_garbage, remove_garbage, remove_run
from dpt_ray.pipeline.runs import list_runs
from dpt_ray.pipeline.tracking import run_watch

ADDRESS = "c" * 16


def test_a_run_is_recorded_in_a_bucket(aws, bucket, monkeypatch):
    monkeypatch.setattr(run_watch, "REMOTE_SECONDS", 0.05)
    seen = {}

    def make(wanted, store, cluster, say, policy, **options):
        (going,) = list_runs(bucket)
        seen["state"] = going.state
        for images in (32, 64):
            publish("stage 1 classifier", images, 64, "images", {"loss": 1.0})
            place = stores.join(going.url, "metrics.jsonl")
            while not stores.exists(place) or stores.read_bytes(place).count(b"\n") < images // 32:
                pass
        store.commit("evaluation", ADDRESS, {"settings": {}, "parents": {}, "facts": {}, "seconds": 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "make_all", make)
    try:
        jobs.make_targets(None, [f"root={bucket}"], lambda run: run.steps())
    except KeyboardInterrupt:
        seen["interrupted"] = True
    (run,) = list_runs(bucket)
    assert (seen, run.state) == ({"state": "running", "interrupted": True}, "interrupted")
    lines = stores.read_bytes(stores.join(run.url, "metrics.jsonl")).splitlines()
    assert [json.loads(line)["done"] for line in lines] == [32, 64]
    assert b"run: s3://" in stores.read_bytes(stores.join(run.url, "log.txt"))
    assert len(stores.list_files(stores.join(run.url, "tensorboard"))) == 1
    assert find_garbage(bucket) == []
    remove_run(bucket, run)
    assert list_runs(bucket) == []
    (orphan,) = find_garbage(bucket, every=True)
    remove_garbage(bucket, [orphan], lambda one: None)
    assert ArtifactStore(bucket).find("evaluation", ADDRESS) is None
