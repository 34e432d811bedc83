"""Bring images of any supported form into shards and index them; tell classes, sizes and what was refused."""

from dpt_ray.pipeline.data_summary import summarise_data
from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.train_data, run.test_data], summarise_data))
