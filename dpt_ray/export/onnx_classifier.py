"""A classifier from the ONNX graph of an export, computed by onnxruntime."""

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError, expecting
from dpt_ray.export.onnx_graph import CLASSES, IMAGE, INPUT, OUTPUT
from dpt_ray.text import one_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ENDING = ".onnx"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxClassifier:
    """A classifier that onnxruntime computes.

    Attributes:
        classes: name of each class, by id.
        form: size and channels to which image files are converted, as in training.
    """

    def __init__(self, session: "InferenceSession", classes: tuple[str, ...], form: ImageForm):
        self._session = session
        self.classes, self.form = classes, form

    def probabilities(self, images: Tensor | np.ndarray, batch: int = 256) -> Tensor:
        """Return class probabilities, float32 (N, num_classes).

        Args:
            images: uint8 (N, C, H, W) of any height and width, which the graph converts.
            batch: number of images that are computed at once; bounds memory.
        """
        rows = np.asarray(images)
        parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        found = [torch.from_numpy(self._session.run([OUTPUT], {INPUT: part})[0]) for part in parts]
        return torch.cat(found) if found else torch.empty(0, len(self.classes))


def load_onnx(url: str, device: str | None = None) -> OnnxClassifier:
    """Load `model.onnx` of an export.

    Args:
        url: path or URL of the file. Weights beside it (`model.onnx.data`) are read from a local folder alone.
        device: "cpu" or "cuda"; a GPU if None, where onnxruntime can use one.

    Raises:
        UserError: it is no graph that `dpt export` wrote, or onnxruntime or the device is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("needs the package onnxruntime", where=url, fix="pip install 'dpt_ray[onnx]'") from None
    available = onnxruntime.get_available_providers()
    wanted = [_PROVIDERS[device]] if device in _PROVIDERS else [*reversed(_PROVIDERS.values())]
    usable = [provider for provider in wanted if provider in available]
    if (device is not None and device not in _PROVIDERS) or not usable:
        raise UserError(f"onnxruntime cannot compute on the device {device!r} here", fix="leave --device out, or cpu")
    if not stores.exists(url):
        raise UserError("there is no such file", where=url)
    model = stores.read_bytes(url) if stores.is_remote(url) else url
    try:
        session = onnxruntime.InferenceSession(model, providers=usable)
    except Exception as error:  # onnxruntime raises types of its own, which derive from Exception alone
        raise UserError(f"cannot be loaded ({one_line(error)})", where=url, fix="export it again") from None
    metadata = session.get_modelmeta().custom_metadata_map
    with expecting("a classifier that this version of dpt export wrote", url, fix="export it again with --onnx"):
        image, classes = json.loads(metadata[IMAGE]), tuple(str(name) for name in json.loads(metadata[CLASSES]))
        form = ImageForm(int(image["size"]), int(image["channels"]), white=image.get("white"))
    return OnnxClassifier(session, classes, form)
