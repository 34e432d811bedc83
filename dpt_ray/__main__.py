"""`python -m dpt_ray` is `dpt`, where the package is not installed but on the path: images, submitted jobs."""

from dpt_ray.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
