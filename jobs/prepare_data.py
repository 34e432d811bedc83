"""Index the training and test images (after writing embedded data as shards): keys, classes, checksums."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.train_data, run.test_data]))
