"""Draw pseudo images of every class from the generator (distributed batch inference)."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.pseudo_images]))
