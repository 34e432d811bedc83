"""Supervised training on labelled images only: the baseline of semi-supervised training."""

from dpt_ray.config.section import Section
from dpt_ray.core.semi_supervised.algorithm import Algorithm


class Supervised(Algorithm):
    """Cross entropy on the weak views of labelled images; unlabelled images are not read."""

    class Settings(Section):
        """It has no settings."""

    consistency_view = "none"
    extendable = True


ALGORITHM = Supervised
