"""The generator's benchmark races against the same arithmetic, written in the published form."""

import torch

from dpt_ray.benchmark.published_uvit import published_denoiser, published_forward
from dpt_ray.core.diffusion.guidance import guided
from dpt_ray.core.diffusion.processes import VariancePreserving
from dpt_ray.core.models.uvit import UViT


def network() -> UViT:
    torch.manual_seed(0)
    return UViT(image_size=8, patch_size=2, in_channels=3, dim=32, depth=4, heads=4, num_classes=5).eval()


@torch.no_grad()
def test_both_forms_are_one_network():
    made = network()
    x, time, label = torch.randn(6, 3, 8, 8), 999 * torch.rand(6), torch.arange(6)
    torch.testing.assert_close(published_forward(made, x, time, label), made(x, time, label))


@torch.no_grad()
def test_both_forms_guide_to_one_image():
    made = network()
    x, sigma, label = torch.randn(4, 3, 8, 8).double(), torch.tensor([0.02, 0.7, 5.0, 90.0]).double(), torch.arange(4)
    ours = guided(VariancePreserving().denoiser(made), 0.4, made.null_label)
    theirs = published_denoiser(made, 0.4)
    torch.testing.assert_close(theirs(x, sigma, label), ours(x, sigma, label), rtol=1e-4, atol=1e-4)
