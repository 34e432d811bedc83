"""Label every training image with the stage-1 classifier (distributed batch inference)."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.pseudo_labels]))
