"""Compare both classifiers, the pseudo-labels and the pseudo images with the truth."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.evaluation]))
