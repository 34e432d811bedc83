"""Dual pseudo training from images to a report: stages 1, 2 and 3 with the two inference steps between them."""

from dpt_ray.pipeline.jobs import run_job
from dpt_ray.pipeline.run_report import finish_run

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: run.steps(), finish_run))
