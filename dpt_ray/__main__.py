"""Run `dpt` as `python -m dpt_ray`, where the package is on the path but not installed: images, submitted jobs."""

from dpt_ray.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
