"""The packages of a wheel: `configs/` becomes `dpt_ray/configs`, which pyproject.toml cannot say beside a search."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["dpt_ray*"]), "dpt_ray.configs"], package_dir={"dpt_ray.configs": "configs"})
