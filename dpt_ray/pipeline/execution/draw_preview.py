"""Images of a generator that is still being trained, as one picture."""

from collections.abc import Sequence

import numpy as np

from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.networks.files import open_content
from dpt_ray.networks.generator import Generator
from dpt_ray.report.grid import grid_png
from dpt_ray.report.image_content import SampleGrid

MAX_CLASSES, PER_CLASS, STEPS = 10, 4, 8
"""Few images in few steps: 40 images cost 320 evaluations of the network."""


def draw_preview(network: bytes, names: Sequence[str] | None) -> bytes:
    """Return a PNG picture of images of a generator's first classes, without guidance.

    Args:
        network: content of the generator's file.
        names: name of each class, by id; None if the ids are the names.
    """
    generator = open_content(Generator, network)
    classes = range(min(generator.num_classes, MAX_CLASSES))
    sampling = SamplingConfig(guidance_scale=0, steps=STEPS)
    wanted = [(label, number) for label in classes for number in range(PER_CLASS)]
    images = generator.draw(sampling, seed=0, wanted=wanted).numpy()
    rows = images.reshape(len(classes), PER_CLASS, *images.shape[1:])
    return grid_png(SampleGrid(np.asarray(rows), [names[c] if names else str(c) for c in classes]), with_labels=True)
