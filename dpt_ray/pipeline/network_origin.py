"""The training that an exported network comes from, and the artifacts that tell what it was trained on."""

from dataclasses import dataclass

from dpt_ray.config.load import parse_dumped
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.features import ENCODER
from dpt_ray.pipeline.artifacts.run import RUN_FILE, SETTINGS_FILE, read_addresses
from dpt_ray.pipeline.artifacts.run_record import root_of
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact, ArtifactStore, read_artifact, store_of

CLASSIFIER_IDS = {1: "classifier", 3: "retrained"}
"""Stage -> field of `DualPseudoTraining` that holds its classifier."""


@dataclass(frozen=True)
class Origin:
    """The training that a network comes from, and its run.

    Attributes:
        trained: the artifact of the training.
        name: name of the run, or address of the training.
        settings: settings of the run; None for a training that is exported without a run.
        evaluation: artifact of the run's evaluation; None for a training that is exported without a run.
    """

    trained: Artifact
    name: str
    settings: RunConfig | None = None
    evaluation: Artifact | None = None

    def parent(self, role: str, of: Artifact | None = None) -> Artifact | None:
        """Return a parent of an artifact, by default of the training; None if it has no such parent."""
        child = of or self.trained
        address = child.parent(role)
        if address is None:
            return None
        store = store_of(child)
        found = store.find(*address)
        if found is None:
            place = store.folder(*address)
            raise UserError("is gone, and the export tells from it what was trained on", where=place)
        return found

    def need(self, role: str, of: Artifact | None = None) -> Artifact:
        """Return a parent that the artifact must have.

        Raises:
            UserError: its manifest names none.
        """
        found = self.parent(role, of)
        if found is None:
            raise UserError(f"its manifest names no {role}", where=(of or self.trained).url)
        return found

    @property
    def index(self) -> DatasetIndex:
        """The index of the training images."""
        return read_index(self.need("images").url)


def own_encoder_file(origin: Origin) -> str:
    """Return the URL of the encoder of stage 0 that a probe was fitted on.

    Raises:
        UserError: a manifest does not name it, or it is gone.
    """
    return origin.need(ENCODER, of=origin.need("encoded")).file(NETWORK_FILE)


def find_origin(url: str, id: str, step: str) -> Origin:
    """Find the training of a network.

    Args:
        url: the folder of a run (`<root>/runs/<name>`), or of one finished training (`<root>/<step>/<address>`).
        id: field of `DualPseudoTraining` that holds the training in a run.
        step: kind of the training step.

    Raises:
        UserError: the folder holds neither a run nor a training, or a training of another kind.
    """
    url = stores.absolute_url(url).rstrip("/")
    if stores.exists(stores.join(url, RUN_FILE)):
        return _of_run(url, id)
    manifest = stores.join(url, MANIFEST_FILE)
    if not stores.exists(manifest):
        what = f"holds neither a finished run ({RUN_FILE}) nor a finished training ({MANIFEST_FILE})"
        raise UserError(
            what if stores.exists(url) else "does not exist",
            where=url,
            fix="give the name of a run (dpt runs list), <root>/runs/<name>, or the folder that dpt train-generator or "
            "another command named at its end",
        )
    artifact = read_artifact(url)
    if artifact.step != step:
        raise UserError(f"holds a {artifact.step}, not a {step}", where=url)
    return Origin(artifact, "/".join(url.rsplit("/", 2)[1:]))


def _of_run(url: str, id: str) -> Origin:
    store = ArtifactStore(root_of(url))
    addresses = read_addresses(url)
    place = stores.join(url, SETTINGS_FILE)
    try:
        settings = parse_dumped(stores.read_bytes(place), place)
    except UserError as error:
        raise UserError(f"are no settings that this version reads ({error.what})", where=place) from None

    def find(id: str) -> Artifact:
        step, _, address = addresses.get(id, "").partition("/")
        artifact = store.find(step, address) if address else None
        if artifact is None:
            raise UserError(f"the run's {id} is gone", where=url, fix="dpt run makes it again")
        return artifact

    return Origin(find(id), settings.name, settings, find("evaluation"))
