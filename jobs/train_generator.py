"""Stage 2: train the class-conditional diffusion model on the pseudo-labels."""

from dpt_ray.pipeline.jobs import run_job

if __name__ == "__main__":
    raise SystemExit(run_job(__doc__, lambda run: [run.generator]))
