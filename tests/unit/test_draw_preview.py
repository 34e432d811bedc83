"""Pictures of a generator in training: one for any network that stage 2 can train."""

import io

import numpy as np
import pytest
from PIL import Image

from dpt_ray.config.load import load_config
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.networks.generator import generator_file
from dpt_ray.pipeline.execution.draw_preview import PER_CLASS, draw_preview

TINY = ["preset=digits", "stage2.model.dim=16", "stage2.model.depth=2", "stage2.model.heads=2"]


@pytest.mark.parametrize(
    ("settings", "channels", "classes", "rows"),
    [
        ([], 1, 3, 3),
        (["stage2.label_dropout=0", "sampling.guidance_scale=0"], 3, 12, 10),
        (["stage2.process=flow_matching"], 1, 2, 2),
        (["stage2.process=discrete_variance_preserving"], 3, 2, 2),
        (["stage2.process=edm"], 3, 2, 2),
    ],
)
def test_a_row_for_each_class_is_drawn(settings, channels, classes, rows):
    config = load_config(None, [*TINY, *settings]).stage2
    form = {"image_size": 8, "channels": channels, "num_classes": classes}
    file = generator_file(config, form, generator_training(config, **form, seed=0))
    png = draw_preview(file, [f"class {label}" for label in range(classes)])
    assert png == draw_preview(file, [f"class {label}" for label in range(classes)])
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.height == rows * (64 + 2)
        assert picture.width > PER_CLASS * (64 + 2)  # names stand at the left
        assert np.asarray(picture)[..., :3].std() > 0
