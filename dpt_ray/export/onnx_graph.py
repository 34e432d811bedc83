"""Export of a classifier as an ONNX graph from uint8 images of any size to class probabilities, for any batch size."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dpt_ray.errors import UserError
from dpt_ray.export.folder import ONNX_FILE, ImageEntry
from dpt_ray.export.onnx_resize import with_resize

INPUT, OUTPUT = "images", "probabilities"
CLASSES, IMAGE = "classes", "image"
"""Names of the metadata: the classes, and size, channels and white level of the images, both as JSON."""
LARGEST_SINGLE_FILE = 1_500_000_000
"""Bytes of weights above which they are stored in a second file: an ONNX file holds less than 2 GiB."""

TOLERANCE = 1e-4
"""Largest difference between the probabilities of torch and onnxruntime."""

_CHECKED_IMAGES = 3


def onnx_files(
    graph: nn.Module, image: ImageEntry, classes: Sequence[str], largest: int = LARGEST_SINGLE_FILE
) -> dict[str, bytes]:
    """Return the contents of the graph's files by name, after a comparison of onnxruntime's results with torch's.

    Args:
        graph: module on the CPU from uint8 images (B, C, H, W) to probabilities (B, num_classes), with normalisation.
        image: form of the module's images; stored in the graph's metadata. The graph resizes images of another size.
        classes: names of the classes; stored in the graph's metadata.
        largest: bytes of weights above which they are stored in a second file.

    Raises:
        UserError: a package is missing, or the probabilities differ by more than `TOLERANCE`.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise UserError(f"ONNX needs the package {error.name}", fix="pip install 'dpt_ray[onnx]'") from None
    shape = (image["channels"], image["size"], image["size"])
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (_CHECKED_IMAGES, *shape), generator=random).to(torch.uint8)
    graph = graph.eval()
    with torch.no_grad(), _quietly():
        expected = graph(images).numpy()
        program = torch.onnx.export(
            graph,
            (images[:2],),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    model = with_resize(program.model_proto, INPUT, image["size"], image["channels"])
    metadata = {CLASSES: list(classes), IMAGE: dict(image)}
    onnx.helper.set_model_props(model, {name: json.dumps(v, ensure_ascii=False) for name, v in metadata.items()})
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX_FILE
        onnx.save_model(model, path, save_as_external_data=size > largest, location=f"{ONNX_FILE}.data")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        _compare(session.run(None, {INPUT: images.numpy()})[0], expected)
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def _compare(computed: np.ndarray, expected: np.ndarray) -> None:
    difference = float(np.abs(computed - expected).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"onnxruntime's probabilities differ from torch's by {difference:.1e}",
            fix="try other versions of torch, onnxscript and onnxruntime (constraints.txt has the tested ones)",
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter's warnings of packages that it does not need, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
