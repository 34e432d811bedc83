"""Labelled images alone: the baseline that semi-supervised training must beat."""

from dpt_ray.config.schema import Section
from dpt_ray.core.semi_supervised.algorithm import Algorithm


class Supervised(Algorithm):
    """Cross entropy on the weak views of labelled images; unlabelled images are not read."""

    class Settings(Section):
        """It has none."""

    student = "none"


ALGORITHM = Supervised
