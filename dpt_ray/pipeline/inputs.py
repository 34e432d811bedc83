"""What the description of a run reads of storage: found images, listed shards, label lists, pretrained models.

All reads of descriptions pass through `Inputs`, which reads each place once for any number of runs. A search of a
thousand points lists a bucket once.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar, cast

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.importing.class_folders import describe_class_folders
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.found_data import FoundData, find_data
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.data.storage import stores
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.metric_networks import MetricNetwork, find_network
from dpt_ray.networks.pretrained import model_files
from dpt_ray.networks.pretrained.autoencoders import FoundAutoencoder, check_settings, find_autoencoder
from dpt_ray.networks.pretrained.encoders import encoder_identity
from dpt_ray.networks.reference_statistics import FoundReference, find_reference
from dpt_ray.networks.start_weights import FoundWeights, check_autoencoder, check_classifier, check_generator
from dpt_ray.pipeline.found_start import Kind, find_start
from dpt_ray.pipeline.listings import Listings

Found = TypeVar("Found")


class Inputs:
    """Reads each place once and keeps the result. One object serves one command, so the next command sees changes.

    Args:
        without_classes: whether a folder of images without class folders is a training set, without any label.
    """

    def __init__(self, *, without_classes: bool = False) -> None:
        self._without_classes = without_classes
        self._found: dict[Hashable, Any] = {}
        self._listings: Listings | None = None

    def use_listings(self, config: RunConfig) -> None:
        """Use the listings of large folders that earlier commands kept below the root, from now on."""
        if self._listings is None:
            self._listings = Listings(config.root, again=config.cluster.list_again)

    def keep_listings(self) -> None:
        """Keep the listings of large folders for later commands, and for other processes of this one.

        Raises:
            UserError: they cannot be written.
        """
        if self._listings is not None:
            self._listings.keep()

    def data(self, split: Split, data: DataConfig) -> FoundData:
        """Return the images of a split.

        Raises:
            UserError: there are none, or they cannot be used.
        """
        train = self.data("train", data) if split == "test" else None
        describe = describe_class_folders if self._listings is None else self._listings.describe
        folders = partial(describe, without_classes=self._without_classes)
        return self._once((split, data.model_dump_json()), lambda: find_data(split, data, train, folders))

    def label_list(self, file: str) -> list[str]:
        """Return the lines of a list of labelled images.

        Raises:
            UserError: it cannot be read.
        """
        place = stores.absolute_url(file)
        return self._once(
            ("labels", place), lambda: [line.rstrip("\r\n") for line in read_lines(place, "list of images")]
        )

    def encoder(self, location: str) -> JsonObject:
        """Return the identity of an encoder; see `encoder_identity`.

        Raises:
            UserError: a folder without the files.
        """
        return self._once(("encoder", location), lambda: encoder_identity(location))

    def autoencoder(self, config: GeneratorConfig, data: DataConfig) -> FoundAutoencoder | None:
        """Return the autoencoder of latents; None for a name on the hub, which is read when latents are made.

        Raises:
            UserError: there is none, or it does not fit the settings.
        """
        location = config.latents.autoencoder or ""
        if not model_files.is_folder(location):
            return None
        found = self._once(("autoencoder", location), lambda: find_autoencoder(location))
        check_settings(found, config.latents, data.channels)
        return found

    def metric_network(self, config: EvaluationConfig) -> MetricNetwork | None:
        """Return the network in whose features pseudo images are measured; None for stage 1.

        Raises:
            UserError: its files are absent, or hold another network.
        """
        return self._once(("metric network", config.model_dump_json()), lambda: find_network(config))

    def reference(self, location: str | None) -> FoundReference | None:
        """Return the file with reference statistics; None without one.

        Raises:
            UserError: there is no such file.
        """
        return None if location is None else self._once(("reference", location), lambda: find_reference(location))

    def classifier_start(self, stage: str, config: ClassifierConfig, data: DataConfig) -> FoundWeights | None:
        """Return the weights that a classifier's training starts with; None for random ones.

        Raises:
            UserError: they cannot be read, or are not those of the stage's network.
        """
        if config.start is None:
            return None
        found = self._start(config.start, "classifier")
        check_classifier(found, config.model, data.channels, stage)
        return found

    def generator_start(self, config: GeneratorConfig, data: DataConfig) -> FoundWeights | None:
        """Return the weights that a generator's training starts with; None for random ones.

        Raises:
            UserError: they cannot be read, or are not those of the network.
        """
        if config.start is None:
            return None
        found = self._start(config.start, "generator")
        check_generator(found, config, *config.canvas(data))
        if config.in_latents and (autoencoder := self.autoencoder(config, data)) is not None:
            check_autoencoder(found, autoencoder)
        return found

    def _start(self, location: str, kind: Kind) -> FoundWeights:
        return self._once(("start", kind, location), lambda: find_start(location, kind))

    def _once(self, key: Hashable, look_up: Callable[[], Found]) -> Found:
        if key not in self._found:
            self._found[key] = look_up()
        return cast(Found, self._found[key])
