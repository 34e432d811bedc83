"""Random views of stage 0: whole crops are the images, and each setting changes what it says."""

import pytest
import torch

from dpt_ray.config.encoder_section import ViewsConfig
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.self_supervised.views import RandomViews

PLAIN = {"scale": (1.0, 1.0), "flip": False, "color": 0.0, "grey": 0.0}


def images(count: int = 64, channels: int = 3, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def views(given: torch.Tensor, count: int = 1, size: int | None = None, **settings) -> torch.Tensor:
    config = ViewsConfig(**{**PLAIN, **settings})
    return RandomViews(config)(given, RowRandom(range(len(given))), count, size)


def test_a_view_of_a_ratio_near_one_of_the_whole_image_is_nearly_the_image():
    smooth = torch.linspace(40, 200, 8).byte().expand(64, 3, 8, 8).contiguous()
    found = views(smooth)[0]
    assert found.shape == (64, 3, 8, 8)
    assert (found - smooth.float()).abs().max() < 25  # only the ratio of the sides is drawn


def test_views_of_another_size_and_number():
    assert views(images(), count=3, size=4).shape == (3, 64, 3, 4, 4)


def test_smaller_crops_show_smaller_parts():
    ramp = torch.linspace(0, 255, 32).byte().expand(64, 1, 32, 32).contiguous()
    spans = [(view.amax((1, 2, 3)) - view.amin((1, 2, 3))).mean() for view in (views(ramp)[0], _quarter(ramp))]
    assert spans[1] / spans[0] == pytest.approx(0.5, abs=0.07)


def _quarter(given: torch.Tensor) -> torch.Tensor:
    return views(given, scale=(0.25, 0.25))[0]


def test_half_of_the_views_are_mirrored():
    ramp = torch.linspace(0, 255, 8).byte().expand(400, 1, 8, 8).contiguous()
    falling = (views(ramp, flip=True)[0][..., 0] > views(ramp, flip=True)[0][..., -1]).all((1, 2))
    assert falling.float().mean() == pytest.approx(0.5, abs=0.1)
    assert not (views(ramp)[0][..., 0] > views(ramp)[0][..., -1]).any()


def test_rotation_turns_by_at_most_its_angle():
    ramp = torch.linspace(0, 255, 16).byte().expand(200, 1, 16, 16).contiguous()
    centre = views(ramp, rotation=30)[0][:, 0, 4:12, 4:12]
    across, down = centre.diff(dim=2).mean((1, 2)), centre.diff(dim=1).mean((1, 2))
    angle = torch.rad2deg(torch.atan2(down, across)).abs()
    assert angle.max() < 30 * 1.25  # the ratio of the sides changes angles a little
    assert angle.max() > 20


def test_grey_views_have_equal_channels_and_colours_stay_in_range():
    grey = views(images(400), grey=0.25)[0]
    same = (grey[:, 0] - grey[:, 2]).abs().amax((1, 2)) < 1e-3
    assert same.float().mean() == pytest.approx(0.25, abs=0.08)
    coloured = views(images(), color=1.0)[0]
    assert coloured.min() >= 0
    assert coloured.max() <= 255
    assert not torch.allclose(coloured, views(images())[0])


def test_hue_keeps_the_luma_and_changes_the_colour():
    even = torch.tensor([120, 100, 90], dtype=torch.uint8)[None, :, None, None].expand(64, 3, 4, 4).contiguous()
    turned = views(even, color=0.3)[0]
    assert (turned.amax((2, 3)) - turned.amin((2, 3))).max() < 1e-3  # a plain image stays plain
    assert len(turned[:, :, 0, 0].argsort(dim=1).unique(dim=0)) > 1


def test_a_rows_views_do_not_depend_on_other_rows():
    given, config = images(), ViewsConfig(rotation=10)
    together = RandomViews(config)(given, RowRandom(range(64)), 2)
    alone = RandomViews(config)(given[40:], RowRandom(range(40, 64)), 2)
    torch.testing.assert_close(together[:, 40:], alone)


def test_grey_images_have_views():
    assert views(images(channels=1), color=0.5, grey=0.5, flip=True).shape == (1, 64, 1, 8, 8)
