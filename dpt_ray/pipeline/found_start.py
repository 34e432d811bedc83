"""Find the trained network with which a training starts: in a run, a training, an export, or a file."""

from typing import Literal

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.folder import CONFIG_FILE, WEIGHTS_FILE
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.start_weights import FoundWeights, find_weights
from dpt_ray.pipeline.artifacts.run import RUN_FILE, read_addresses
from dpt_ray.pipeline.artifacts.run_record import root_of
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, read_artifact

Kind = Literal["classifier", "generator"]
_IN_RUNS: dict[Kind, str] = {"classifier": "retrained", "generator": "generator"}
"""Kind of network -> field of `DualPseudoTraining` that holds it in a run."""
_STEPS: dict[Kind, tuple[str, ...]] = {"classifier": ("classifier",), "generator": ("generator", "pretraining")}
"""Kind of network -> the steps that train one."""


def find_start(location: str, kind: Kind) -> FoundWeights:
    """Find and read a trained network; see `network_url` and `find_weights`."""
    return find_weights(network_url(location, kind), kind)


def network_url(location: str, kind: Kind) -> str:
    """Return the URL of a trained network's file.

    Args:
        location: path or URL of a finished run's folder, of a training's, of an export's, or of the file itself.
        kind: the kind of network, to choose one of a run and to refuse another training.

    Raises:
        UserError: there is no such network.
    """
    url = stores.absolute_url(location).rstrip("/")
    if stores.exists(stores.join(url, RUN_FILE)):
        address = read_addresses(url).get(_IN_RUNS[kind])
        if address is None:
            raise UserError(f"is a run without a {kind}", where=url)
        return stores.join(root_of(url), address, NETWORK_FILE)
    if stores.exists(stores.join(url, MANIFEST_FILE)):
        artifact = read_artifact(url)
        if artifact.step not in _STEPS[kind]:
            raise UserError(f"holds a {artifact.step}, not a {kind}", where=url, fix=f"give a {kind}")
        return artifact.file(NETWORK_FILE)
    if stores.exists(stores.join(url, CONFIG_FILE)):
        return stores.join(url, WEIGHTS_FILE)
    if stores.list_files(url) or stores.list_folders(url):
        fix = "give the folder of a finished run, a finished training or an export, or a network's file"
        raise UserError("is a folder without a trained network", where=url, fix=fix)
    return url
