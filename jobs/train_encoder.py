"""`dpt train-encoder` as a script, for `ray job submit`."""

from dpt_ray.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main("train-encoder"))
