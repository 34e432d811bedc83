"""The network that `dpt predict` and `dpt generate` compute with: an export as it is, or an export made of a run."""

from collections.abc import Callable
from dataclasses import dataclass

from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.export.folder import CONFIG_FILE
from dpt_ray.export.onnx_classifier import ENDING
from dpt_ray.pipeline.network_origin import find_origin


@dataclass(frozen=True)
class FoundModel:
    """A trained network.

    Attributes:
        url: the folder of an export, of a run or of a finished training; or an ONNX file, which is an export as well.
        is_export: whether it is an export, which any process can load.
        identity: tells the network from every other one, wherever it lies.
    """

    url: str
    is_export: bool
    identity: str

    def exported(self, folder: str, export: Callable[[str, str], str]) -> str:
        """Return the URL of the export; write one to `folder` if this is none and no earlier call wrote it.

        Args:
            folder: URL of a folder that only this network's export uses.
            export: writes an export, (URL of the run, URL of the folder) -> URL of the folder.
        """
        if self.is_export:
            return self.url
        return folder if stores.exists(stores.join(folder, CONFIG_FILE)) else export(self.url, folder)


def find_model(model: str, id: str, step: str) -> FoundModel:
    """Find a trained network.

    Args:
        model: URL of an export, of a run, of a finished training, or of a classifier's ONNX file.
        id: the training's field of `DualPseudoTraining`, in a run.
        step: the training's kind.

    Raises:
        UserError: there is no such network.
    """
    url = stores.absolute_url(model).rstrip("/")
    if step == "classifier" and url.endswith(ENDING):
        return FoundModel(url, True, sha256(stores.read_bytes(url)))
    place = stores.join(url, CONFIG_FILE)
    if stores.exists(place):
        return FoundModel(url, True, sha256(stores.read_bytes(place)))
    return FoundModel(url, False, find_origin(url, id, step).trained.address)
