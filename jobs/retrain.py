"""Stage 3: train the classifier again, on labelled, unlabelled and pseudo images."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.retrained]))
