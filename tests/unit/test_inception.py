"""Inception-v3 against another implementation with the same random weights, and the loading of its file."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, max_pool2d, pad

from dpt_ray.core.models.inception import Inception, resize_as_tensorflow
from dpt_ray.errors import UserError
from dpt_ray.networks import inception_weights
from dpt_ray.networks.inception_weights import find_inception, open_inception


def random_weights() -> dict[str, torch.Tensor]:
    """Return weights under which signals neither vanish nor grow."""
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in Inception().state_dict().items():
        drawn = torch.randn(value.shape, generator=random)
        if name.endswith("conv.weight"):
            weights[name] = drawn * (2 / value[0].numel()) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            weights[name] = 1 + 0.2 * drawn.abs()
        elif name.endswith("num_batches_tracked"):
            weights[name] = value
        else:
            weights[name] = 0.1 * drawn
    return weights


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights()


class Graph:
    """The released graph, as a list of operations by its own names (`mixed_6/tower/conv_1`), without modules."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.weights, self.seen = weights, {}

    def conv(self, x: torch.Tensor, name: str, stride: int = 1, same: bool = True) -> torch.Tensor:
        kernel = self.weights[f"{name}.conv.weight"]
        mean, var = self.weights[f"{name}.bn.running_mean"], self.weights[f"{name}.bn.running_var"]
        gamma, beta = self.weights[f"{name}.bn.weight"], self.weights[f"{name}.bn.bias"]
        if same:
            (down, across) = ((side - 1) // 2 for side in kernel.shape[2:])
            x = pad(x, (across, across, down, down))
        scale = (gamma / torch.sqrt(var + 0.001))[:, None, None]
        shift = beta[:, None, None] - mean[:, None, None] * scale
        return torch.clamp(conv2d(x, kernel, stride=stride) * scale + shift, 0)

    def chain(self, x: torch.Tensor, block: str, *names: str) -> torch.Tensor:
        for name in names:
            x = self.conv(x, f"{block}.{name}")
        return x

    def average(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of the pixels in a window of 3 that lie in the image."""
        ones = torch.ones(x.shape[1], 1, 3, 3)
        total = conv2d(x, ones, padding=1, groups=x.shape[1])
        return total / conv2d(torch.ones_like(x), ones, padding=1, groups=x.shape[1])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x, "Conv2d_1a_3x3", 2, same=False)
        x = self.conv(self.conv(x, "Conv2d_2a_3x3", same=False), "Conv2d_2b_3x3")
        x = self.conv(max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = max_pool2d(self.conv(x, "Conv2d_4a_3x3", same=False), 3, 2)
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.seen[block] = self.towers(x, block, self.average(x), (
                ("branch1x1",), ("branch5x5_1", "branch5x5_2"),
                ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            ))  # fmt: skip
        long = self.chain(x, "Mixed_6a", "branch3x3dbl_1", "branch3x3dbl_2")
        x = self.seen["Mixed_6a"] = torch.cat([
            self.conv(x, "Mixed_6a.branch3x3", 2, same=False),
            self.conv(long, "Mixed_6a.branch3x3dbl_3", 2, same=False),
            max_pool2d(x, 3, 2),
        ], 1)  # fmt: skip
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            if block == "Mixed_6d":
                self.seen["spatial"] = self.conv(x, "Mixed_6d.branch1x1")
            x = self.seen[block] = self.towers(x, block, self.average(x), (
                ("branch1x1",), ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
                tuple(f"branch7x7dbl_{n}" for n in range(1, 6)),
            ))  # fmt: skip
        long = self.chain(x, "Mixed_7a", "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3")
        x = self.seen["Mixed_7a"] = torch.cat([
            self.conv(self.chain(x, "Mixed_7a", "branch3x3_1"), "Mixed_7a.branch3x3_2", 2, same=False),
            self.conv(long, "Mixed_7a.branch7x7x3_4", 2, same=False),
            max_pool2d(x, 3, 2),
        ], 1)  # fmt: skip
        x = self.seen["Mixed_7b"] = self.wide(x, "Mixed_7b", self.average(x))
        x = self.seen["Mixed_7c"] = self.wide(x, "Mixed_7c", max_pool2d(pad(x, (1, 1, 1, 1)), 3, 1))
        return x

    def towers(
        self, x: torch.Tensor, block: str, pooled: torch.Tensor, towers: tuple[tuple[str, ...], ...]
    ) -> torch.Tensor:
        outputs = [self.chain(x, block, *names) for names in towers]
        return torch.cat([*outputs, self.conv(pooled, f"{block}.branch_pool")], 1)

    def wide(self, x: torch.Tensor, block: str, pooled: torch.Tensor) -> torch.Tensor:
        short = self.chain(x, block, "branch3x3_1")
        long = self.chain(x, block, "branch3x3dbl_1", "branch3x3dbl_2")
        return torch.cat([
            self.conv(x, f"{block}.branch1x1"),
            self.conv(short, f"{block}.branch3x3_2a"), self.conv(short, f"{block}.branch3x3_2b"),
            self.conv(long, f"{block}.branch3x3dbl_3a"), self.conv(long, f"{block}.branch3x3dbl_3b"),
            self.conv(pooled, f"{block}.branch_pool"),
        ], 1)  # fmt: skip


def test_every_block_agrees_with_the_graph(weights):
    network = Inception()
    network.load_state_dict(weights)
    seen = {}
    for name, block in network.named_children():
        block.register_forward_hook(lambda block, inputs, output, name=name: seen.__setitem__(name, output))
    images = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = network(images)
    graph = Graph(weights)
    last = graph.run((images.float() - 128) / 128)
    for name, expected in graph.seen.items():
        if name != "spatial":
            torch.testing.assert_close(seen[name], expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
            assert expected.std() > 1e-3
    pooled = last.flatten(2).mean(2)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-3, atol=1e-4 * float(pooled.std()))
    spatial = graph.seen["spatial"][:, :7].numpy().transpose(0, 2, 3, 1).reshape(2, 2023)  # as TensorFlow orders them
    np.testing.assert_allclose(found.spatial.numpy(), spatial, rtol=1e-3, atol=1e-4 * spatial.std())
    logits = pooled @ weights["fc.weight"].T
    torch.testing.assert_close(found.logits, logits, rtol=1e-3, atol=1e-4 * float(logits.std()))
    assert found.logits.shape == (2, 1008)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 11), (299, 299), (400, 512), (1, 1)])
def test_images_are_resized_as_tensorflow_did(height, width):
    image = torch.randint(0, 256, (1, 2, height, width), generator=torch.Generator().manual_seed(0)).float()
    found = resize_as_tensorflow(image, 299)
    source = image[0].double().numpy()
    for row, column in ((0, 0), (1, 298), (150, 77), (298, 298), (298, 3)):
        y, x = row * height / 299, column * width / 299
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = source[:, top, left] + (source[:, top, right] - source[:, top, left]) * (x - left)
        lower = source[:, bottom, left] + (source[:, bottom, right] - source[:, bottom, left]) * (x - left)
        expected = upper + (lower - upper) * (y - top)
        assert found[0, :, row, column].numpy() == pytest.approx(expected, abs=0.02)  # places are float32, as there


def test_grey_images_are_those_of_three_equal_channels(weights):
    network = Inception()
    network.load_state_dict(weights)
    grey = torch.randint(0, 256, (1, 1, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(network(grey).pooled, network(grey.expand(-1, 3, -1, -1)).pooled)


def test_the_network_has_the_published_number_of_weights():
    assert (
        sum(parameter.numel() for parameter in Inception().parameters()) == 23_834_568 + 8 * 2049
    )  # with 1008 classes, not 1000


def test_a_file_is_loaded_strictly(weights, tmp_path):
    place = str(tmp_path / "inception.safetensors")
    without_counters = {name: value for name, value in weights.items() if not name.endswith("tracked")}
    for content in (weights, without_counters):
        save_file(content, place)
        network = open_inception(find_inception(place))
        assert not network.training
        for name, value in without_counters.items():
            torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)
    missing = {name: value for name, value in weights.items() if name != "Mixed_7c.branch_pool.conv.weight"}
    for content, complaint in (
        (missing, "without Mixed_7c.branch_pool.conv.weight"),
        ({**weights, "AuxLogits.fc.weight": torch.zeros(2)}, "AuxLogits.fc.weight too many"),
        ({**weights, "fc.bias": torch.zeros(1000)}, "fc.bias of shape"),
        ({**weights, "fc.bias": torch.full((1008,), torch.nan)}, "no finite numbers"),
    ):
        save_file(content, place)
        with pytest.raises(UserError, match=complaint) as caught:
            find_inception(place)
        assert "\n" not in str(caught.value)


def test_a_torch_file_is_loaded_and_another_file_is_not(weights, tmp_path):
    place = tmp_path / "inception.pth"
    torch.save(weights, place)
    found = find_inception(str(place))
    assert not found.is_published
    assert found.name == f"Inception-v3, weights {found.checksum[:8]}"
    torch.testing.assert_close(open_inception(found).fc.weight, weights["fc.weight"], rtol=0, atol=0)
    place.write_bytes(place.read_bytes() + b"\0")
    with pytest.raises(UserError, match="has changed since the job read it"):
        open_inception(found)
    torch.save({"network": Inception}, place)
    for content in (place.read_bytes(), b"a text", b""):
        place.write_bytes(content)
        with pytest.raises(UserError, match=r"pt_inception-2015-12-05-6726825d\.pth"):
            find_inception(str(place))


def test_the_published_file_is_known_by_its_checksum_and_may_have_torchs_old_format(weights, tmp_path, monkeypatch):
    place = tmp_path / "inception.pth"
    torch.save(weights, place, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="no zip archive"):
        find_inception(str(place))
    monkeypatch.setattr(inception_weights, "PUBLISHED", hashlib.sha256(place.read_bytes()).hexdigest()[:8])
    found = find_inception(str(place))
    assert found.is_published
    assert found.name == "Inception-v3, published weights"
    torch.testing.assert_close(open_inception(found).fc.weight, weights["fc.weight"], rtol=0, atol=0)
