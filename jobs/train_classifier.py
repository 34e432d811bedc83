"""Stage 1: train the semi-supervised classifier on labelled and unlabelled images."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.classifier]))
