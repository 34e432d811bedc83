"""Every setting of a run, typed and bounded; `load.py` turns files and overrides into one `RunConfig`.

A docstring under a field says what it means and in which unit. Counts of work are images, never
steps. `cluster` holds what may change without changing a single result; everything else is part of
the fingerprint of the steps that it reaches (`pipeline/dpt.py` says which).
"""

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, SerializeAsAny, model_validator

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
"""Largest number of classes: no data has more, and every class costs memory in each step."""


class Section(BaseModel):
    """A group of settings: immutable, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a value may hold a secret
    )

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, values: Any) -> Any:
        """Read scalars of YAML by the types of their settings (`scalars.py`)."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: as_wanted(value, fields[name].annotation) if name in fields else untyped(value)
            for name, value in values.items()
        }


_WRITTEN = ReadWhen("data of another format than shards", lambda data: data.format != "shards")
_IN_TABLES = ReadWhen(
    "data of the format csv or parquet",
    lambda data: data.train != "digits" and data.format in ("auto", "csv", "parquet"),
)


class DataConfig(Section):
    train: Place | None = "digits"
    """Training images: `digits` (embedded), or the URL of a folder or file of any `format`."""
    test: Place | None = None
    """Held-out images, for evaluation; training never reads them, but they must not be among its images. Their class
    ids are those of `train`. Digits bring their own."""
    format: Annotated[Literal["auto", "shards", "class_folders", "csv", "cifar10", "parquet"], OrPlugin("formats")] = (
        "auto"
    )
    """What `train` and `test` hold: WebDataset shards, which stay where they are, or something that shards are
    made from (`docs/guide/data.md`). `auto` looks."""
    train_labels: Place | None = None
    """csv: URL of a table with a header, a row for each image below the folder `train`."""
    test_labels: Place | None = None
    """csv: the same for `test`."""
    image_column: Annotated[str | None, _IN_TABLES] = None
    """csv: column with file names, `file` by default. parquet: column with images, found by default."""
    label_column: Annotated[str | None, _IN_TABLES] = None
    """csv: column with class names or ids, `label` by default. parquet: the same, found by default."""
    image_size: Count = 8
    """Height and width in pixels that every image is brought to (short side resized, centre cropped)."""
    channels: Literal[1, 3] = 3
    """1 for greyscale, 3 for RGB."""
    num_classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)] | None = None
    """Number of classes; found from the labels (largest class id + 1) when not given."""
    class_names: tuple[str, ...] | None = None
    """Names in the order of class ids: they number the classes of named data, and the report shows them."""
    class_file: Place | None = None
    """URL of a text file with the same, one name a line."""
    images_per_shard: Annotated[Count, _WRITTEN] = 1000
    """Images in each shard that this package writes from data of another format."""
    prepare_size: Annotated[Count | None, _WRITTEN] = None
    """Height and width in pixels of images in those shards (short side resized, centre cropped, stored as PNG);
    images are copied as they are when not given."""
    max_image_pixels: Count = 64_000_000
    """An image with more pixels is refused before it is decoded (decompression bombs)."""
    on_error: Literal["fail", "skip"] = "fail"
    """What an image, file or shard that cannot be used does: end the job, or be listed and left out."""
    max_skipped_share: Annotated[Share, read_with("on_error", "skip")] = 0.01
    """With `on_error: skip`: the largest share of a data set's images that may be left out."""
    on_overlap: Literal["fail", "report"] = "fail"
    """What test images with the very pixels of a training image do: end the job before anything trains, or be counted
    and listed like those that only look alike (`docs/guide/data.md`)."""
    lanes: Count = 8
    """Fixed number of interleaved streams that make up the data order. Training workers share the
    lanes, so it must be a multiple of `cluster.workers`; batch sizes are multiples of it."""
    shuffle_window: Count = 16384
    """Images that are shuffled together, over all lanes; bounds the memory of a streaming read."""

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
        if self.train != "digits" and self.test is None:
            raise ValueError("test is needed beside train: the URL of held-out images, which only evaluation reads")
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
        if self.format == "csv" and len(tables) < 2:
            raise ValueError("train_labels and test_labels are needed for the format csv: URLs of tables of labels")


def check_class_names(names: Sequence[str]) -> None:
    """Refuse class names of which two are the same to a reader, or one is blank.

    Raises:
        ValueError: it names the class.
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
"""The ways to say which images are labelled; one of them is used."""


class LabelsConfig(Section):
    per_class: Count | None = None
    """Labelled images of every class, drawn by `seed`. The default holds unless `fraction` or `file` is given."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of every class that is labelled (at least one image each), drawn by `seed`."""
    file: Place | None = None
    """URL of a text file that names the labelled images, one key or file name a line."""
    seed: Annotated[int, ReadWhen("per_class or fraction", lambda labels: labels.file is None)] = 0
    """Seed of the draw; for one seed, a smaller subset is contained in a larger one."""

    @model_validator(mode="after")
    def _one_way(self) -> "LabelsConfig":
        given = [name for name in LABEL_CHOICES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(LABEL_CHOICES)} (now: {', '.join(given) or 'none'})")
        return self


class OptimizerConfig(Section):
    name: Literal["sgd", "adam", "adamw"] = "adamw"
    """`sgd` is Nesterov momentum."""
    learning_rate: Positive = 1e-3
    """Highest learning rate, which the schedule and warm-up scale down."""
    momentum: Annotated[Decay, read_with("name", "sgd")] = 0.9
    """SGD only."""
    betas: Annotated[tuple[Decay, Decay], read_with("name", "adam", "adamw")] = (0.9, 0.999)
    """Adam and AdamW only."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Added to the gradient (SGD, Adam), or decoupled from it (AdamW)."""
    decay_all_parameters: Annotated[bool, ReadWhen("weight_decay above 0", lambda o: o.weight_decay > 0)] = False
    """False leaves biases and normalisation parameters without weight decay."""
    schedule: Literal["constant", "cosine_7_16"] = "constant"
    """`cosine_7_16` is FixMatch's cos(7 pi k / 16 K)."""
    warmup_images: Annotated[int, Field(ge=0)] = 0
    """Images over which the learning rate rises linearly from zero."""
    gradient_clip: Positive | None = None
    """Largest gradient norm; none when not given."""


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


_CONVOLUTIONAL = read_with("name", "small_cnn", "wide_resnet")
_NORMALISED = ReadWhen("another name than linear_probe", lambda model: model.name != "linear_probe")


class ClassifierModelConfig(NetworkConfig):
    name: Annotated[Literal["small_cnn", "wide_resnet", "linear_probe"], OrPlugin("networks")] = "small_cnn"
    """`wide_resnet` is the paper's network for CIFAR-10, `small_cnn` one for small images on CPUs. `linear_probe` is
    the paper's for ImageNet: logistic regression on features of a frozen encoder; it reads the section `probe` and no
    other setting of the stage."""
    width: Annotated[Count, _CONVOLUTIONAL] = 32
    """small_cnn: channels of the first block. wide_resnet: the widening factor (2 in WRN-28-2)."""
    depth: Annotated[Count, read_with("name", "wide_resnet")] = 28
    """wide_resnet only: layers, 6 n + 4."""
    form: Annotated[Literal["torchssl", "preactivation"], read_with("name", "wide_resnet")] = "torchssl"
    """wide_resnet only. `torchssl`: the network of the official code; where a block widens and halves the image, its
    first convolution reads the raw input. `preactivation`: the textbook's; every 3x3 convolution follows batch norm
    and activation."""
    mean: Annotated[tuple[float, ...], _NORMALISED] = (0.5,)
    """Channel means of images in [0, 1]; one value serves all channels."""
    std: Annotated[tuple[Positive, ...], _NORMALISED] = (0.5,)
    """Channel standard deviations of images in [0, 1]; one value serves all channels."""


class ProbeConfig(Section):
    encoder: Place = "facebook/vit-msn-base-4"
    """A vision transformer: a name on the Hugging Face hub, `owner/name` or `owner/name@revision` (a commit, tag or
    branch; only a commit never changes), or the URL of a folder with `config.json` and `model.safetensors`. The
    paper's are `facebook/vit-msn-base-4` and `facebook/vit-msn-large-7`."""
    resize: Count = 256
    """Height and width in pixels that images are brought to first (short side resized, centre cropped)."""
    crop: Count = 224
    """Height and width in pixels of the centre that is encoded, a multiple of the encoder's patch size."""
    blocks: Count = 1
    """Last blocks of the encoder whose class tokens are joined."""
    regularisation: Positive = 0.0025
    """Weight of |W|^2 / 2, divided by the number of images that are fitted."""
    tolerance: Positive = 1e-6
    """Largest entry of the gradient at which the fit ends."""
    max_evaluations: Count = 1000
    """Passes over the features after which the fit ends in any case; the report then says so."""

    @model_validator(mode="after")
    def _crop_fits(self) -> "ProbeConfig":
        if self.crop > self.resize:
            raise ValueError(f"crop must not be above resize: {self.crop} > {self.resize}")
        return self


_STRONG = ReadBy(("strong",))
_UNLABELLED = ReadBy(("weak", "strong"))


class AugmentationConfig(Section):
    flip: bool = True
    """Weak view: mirror half of the images. Off where a mirrored image is another class (digits)."""
    crop_padding: Annotated[int, Field(ge=0)] = 4
    """Weak view: reflect-pad by so many pixels, then crop at random."""
    strong_operations: Annotated[int, Field(ge=0), _STRONG] = 3
    """Strong view: RandAugment operations drawn for each image."""
    cutout: Annotated[Share, _STRONG] = 0.5
    """Strong view: largest side of the erased square as a share of the image's; 0 erases nothing."""
    cutout_fill: Annotated[
        Annotated[int, Field(ge=0, le=255)] | None, _STRONG, ReadWhen("cutout above 0", lambda a: a.cutout > 0)
    ] = None
    """Grey level of the erased square; FixMatch's grey (about 120) when not given."""


class AlgorithmConfig(Section):
    """The semi-supervised method. Its own settings stand beside `name`, and are checked by the algorithm."""

    model_config = ConfigDict(extra="allow")

    name: str = "freematch"
    """A file of `dpt_ray/core/semi_supervised/algorithms/`: `freematch` is the paper's."""


class MixingConfig(Section):
    """How stage 3 joins pseudo images to the labelled ones. The defaults are the paper's way."""

    real_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of a step's labelled images that are real ones, each kind in its own order. When not given, images are
    drawn uniformly from real and pseudo images together."""
    pseudo_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss on a pseudo image, where a real image's is 1."""
    only_agreeing: bool = False
    """Leave out pseudo images in which the stage-1 classifier sees another class than was asked for."""
    least_confidence: Annotated[Share, ReadWhen("only_agreeing", lambda mixing: mixing.only_agreeing)] = 0.0
    """With `only_agreeing`: also those in which it sees the class with less confidence."""
    separate_statistics: bool = False
    """Batch norm normalises pseudo images by statistics of their own; needs `real_share`."""
    unlabelled: Annotated[bool, _UNLABELLED] = False
    """Pseudo images are also among the unlabelled images."""
    from_stage1: bool = False
    """Start from stage 1's averaged weights instead of new ones; needs the same `model` in both stages."""

    @model_validator(mode="after")
    def _consistent(self) -> "MixingConfig":
        if self.separate_statistics and self.real_share is None:
            raise ValueError("separate_statistics needs real_share, which keeps a step's pseudo images apart")
        if self.least_confidence > 0 and not self.only_agreeing:
            raise ValueError("least_confidence has an effect with only_agreeing alone; set only_agreeing=true")
        return self

    def split(self, labelled_batch: int, lanes: int) -> tuple[int, int]:
        """Return how many real and how many pseudo images of a stratified step are labelled ones.

        Both are multiples of `lanes`, the nearest to the wanted share, and never none.

        Raises:
            ValueError: there are fewer than two lanes' worth.
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


class ClassifierConfig(Section):
    model: SerializeAsAny[ClassifierModelConfig] = ClassifierModelConfig()
    probe: Annotated[ProbeConfig, read_with("model.name", "linear_probe")] = ProbeConfig()
    """With `model.name: linear_probe`."""
    algorithm: Annotated[AlgorithmConfig, _TRAINED] = AlgorithmConfig()
    mixing: Annotated[MixingConfig, _TRAINED] = MixingConfig()
    """Stage 3 only."""
    augmentation: Annotated[AugmentationConfig, _TRAINED] = AugmentationConfig()
    optimizer: Annotated[OptimizerConfig, _TRAINED] = OptimizerConfig(name="sgd", learning_rate=0.03, weight_decay=5e-4)
    images: Annotated[Count, _TRAINED] = 2_000_000
    """Images to train on, labelled and unlabelled ones together; repeats count."""
    labelled_batch: Annotated[Count, _TRAINED] = 64
    """Labelled images in a step, over all workers."""
    unlabelled_batch: Annotated[Count, _TRAINED, _UNLABELLED] = 448
    """Unlabelled images in a step, over all workers."""
    ema_decay: Annotated[Decay, _TRAINED] = 0.999
    """Decay, a step, of the averaged weights that are evaluated and kept."""
    precision: Annotated[Literal["float32", "bfloat16"], _TRAINED] = "float32"
    """`bfloat16`: the network computes in it where that is safe (autocast), and weights, losses and statistics stay
    float32. For GPUs that have it; CPUs only emulate it."""
    seed: Annotated[int, _TRAINED] = 0
    """Fixes initial weights, the order of images and augmentation, together with the run's seed."""


_UVIT, _DDPMPP = read_with("name", "uvit"), read_with("name", "ddpmpp")


class GeneratorModelConfig(NetworkConfig):
    name: Annotated[Literal["uvit", "ddpmpp"], OrPlugin("networks")] = "uvit"
    """The network: U-ViT, a transformer with skip connections; or DDPM++, the convolutional one that EDM uses."""
    patch_size: Annotated[Count, _UVIT] = 2
    """uvit: height and width in pixels of the square that becomes one token; divides the image's."""
    dim: Annotated[Count, _UVIT] = 128
    """uvit: width of a token."""
    depth: Annotated[int, Field(ge=2, multiple_of=2), _UVIT] = 4
    """uvit: blocks besides the middle one; half of them before it, half after."""
    heads: Annotated[Count, _UVIT] = 4
    """uvit: attention heads; they divide `dim`."""
    final_conv: Annotated[bool, _UVIT] = True
    """uvit: end with a 3x3 convolution over the image, as in U-ViT-L."""
    channels: Annotated[int, Field(ge=8, multiple_of=4), _DDPMPP] = 128
    """ddpmpp: base width."""
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1), _DDPMPP] = (2, 2, 2)
    """ddpmpp: width of each level in `channels`; the image's sides are halved between levels."""
    blocks: Annotated[Count, _DDPMPP] = 4
    """ddpmpp: residual blocks of a level on the way down; one more on the way up."""
    attention_sizes: Annotated[tuple[Count, ...], _DDPMPP] = (16,)
    """ddpmpp: image sides in pixels at which pixels attend to each other, besides the coarsest."""
    dropout: Annotated[Decay, _DDPMPP] = 0.0
    """ddpmpp: share of activations dropped in training (EDM on CIFAR-10: 0.13)."""

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorModelConfig":
        if self.name == "uvit" and self.dim % self.heads:
            raise ValueError(f"heads must divide dim: {self.heads} does not divide {self.dim}")
        if self.name == "uvit" and self.dropout > 0:
            raise ValueError("dropout has an effect with name: ddpmpp alone; set dropout=0")
        return self

    def check_image_size(self, size: int, name: str = "data.image_size") -> None:
        """Raise ValueError where images of `size` pixels, which is `name`, cannot be cut into patches or halved."""
        if self.name == "uvit" and size % self.patch_size:
            raise ValueError(f"stage2.model.patch_size must divide {name}: {self.patch_size} does not divide {size}")
        factor = 2 ** (len(self.multipliers) - 1)
        if self.name == "ddpmpp" and size % factor:
            raise ValueError(
                f"stage2.model.multipliers has {len(self.multipliers)} levels, so {factor} must divide "
                f"{name}: it does not divide {size}"
            )


_IN_LATENTS = ReadWhen("an autoencoder", lambda latents: latents.autoencoder is not None)


class LatentsConfig(Section):
    """Diffusion in the latents of an autoencoder instead of in pixels; see `docs/guide/generators.md`."""

    autoencoder: Place | None = None
    """AutoencoderKL or AutoencoderTiny of the diffusers library: the URL of a folder with `config.json` and
    `diffusion_pytorch_model.safetensors`, or a name on the Hugging Face hub, `owner/name` or `owner/name/folder`, then
    `@revision` if one is wanted (a commit, tag or branch). Diffusion is in pixels when not given."""
    downsampling: Annotated[Count, _IN_LATENTS] = 8
    """Pixels of an image's side for each one of the latent's; must be the autoencoder's, and divide
    `data.image_size`."""
    channels: Annotated[Count, _IN_LATENTS] = 4
    """Channels of a latent; must be the autoencoder's."""
    scale: Annotated[Positive | None, _IN_LATENTS] = None
    """What latents are multiplied by, to bring them to a standard deviation near 1 (Stable Diffusion: 0.18215); the
    autoencoder's own `scaling_factor` when not given. Another one encodes nothing again."""
    precision: Annotated[Literal["float32", "bfloat16"], _IN_LATENTS] = "float32"
    """What the autoencoder computes in. `bfloat16` is for GPUs that have it."""
    storage: Annotated[Literal["float32", "float16"], _IN_LATENTS] = "float32"
    """Type of the stored means and log-variances; `float16` takes half the space."""


class ConditioningConfig(Section):
    """What the generator is told of labels that may be wrong. The paper gives it every pseudo-label as it is."""

    least_confidence: Share = 0.0
    """An image whose pseudo-label is less confident counts as one without a label: it takes the null label."""
    confidence: bool = False
    """Tell the network how confident each pseudo-label is; pseudo images are then asked for at confidence 1."""
    true_labels: bool = False
    """Labelled images keep their true labels, at confidence 1, in the place of what stage 1 predicts for them."""

    @property
    def changes_labels(self) -> bool:
        """Whether the labels differ from stage 1's predictions."""
        return self.true_labels or self.least_confidence > 0


class GeneratorConfig(Section):
    model: SerializeAsAny[GeneratorModelConfig] = GeneratorModelConfig()
    latents: LatentsConfig = LatentsConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    process: Literal["variance_preserving", "discrete_variance_preserving", "edm", "flow_matching"] = (
        "variance_preserving"
    )
    """Noise process and what the network predicts. `variance_preserving`: the noise, at continuous times (the paper's
    U-ViT-L). `discrete_variance_preserving`: the noise, in Stable Diffusion's 1000 steps (the paper's U-ViT-H).
    `edm`: EDM's preconditioning. `flow_matching`: the velocity on the straight line from image to noise."""
    flow_times: Annotated[Literal["uniform", "logit_normal"], read_with("process", "flow_matching")] = "uniform"
    """flow_matching only: how times are drawn in training; `logit_normal` has most of them in the middle."""
    loss_weighting: Literal["published", "min_snr", "edm"] = "published"
    """Weight of a noise level in the loss. `published`: 1 on what the network predicts, as the process was published.
    `min_snr`: min(SNR, `min_snr_gamma`) on the denoised image, SNR = 1 / sigma^2. `edm`: EDM's weight on the
    denoised image, which for `edm` is the published one."""
    min_snr_gamma: Annotated[Positive, read_with("loss_weighting", "min_snr")] = 5.0
    """min_snr only: the largest weight."""
    label_dropout: Decay = 0.15
    """Share of training images whose label is replaced by the null label; guidance needs it."""
    flip: bool = True
    """Mirror half of the training images; latents are then made of every image and of its mirror image."""
    augmentation: Share = 0.0
    """EDM's augmentation: probability, for an image, of each of mirroring top to bottom, scaling, rotating, stretching
    and shifting; 0 is none. The network is told what was done, so that pseudo images show nothing of it; with `flip`
    that holds for left and right as well. ddpmpp only (EDM on CIFAR-10: 0.12)."""
    optimizer: OptimizerConfig = OptimizerConfig()
    images: Count = 2_000_000
    """Images to train on; repeats count."""
    batch: Count = 256
    """Images in a step, over all workers."""
    ema_decay: Annotated[Decay, ReadWhen("ema_half_life: null", lambda g: g.ema_half_life is None)] = 0.999
    """Decay, a step, of the averaged weights that images are sampled with."""
    ema_half_life: Count | None = None
    """The same as a half-life in images, in the place of `ema_decay` (EDM on CIFAR-10: 500,000)."""
    ema_ramp: Positive | None = None
    """With `ema_half_life`: it is at most this share of the images seen so far (EDM: 0.05); no limit if not given."""
    ema_snapshots: Annotated[int, Field(ge=0)] = 0
    """How often, at equal distances up to the end, two further averages are stored, of which `sampling.ema_width`
    makes others; each time takes twice the network's size of storage. With 8, widths from 0.06 to 0.12 are met to
    within 1.3 %."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: the network computes in it where that is safe (autocast), and weights, losses and statistics stay
    float32. For GPUs that have it; CPUs only emulate it."""
    seed: int = 0
    """Fixes initial weights, the order of images and noise, together with the run's seed."""

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorConfig":
        if self.augmentation > 0 and self.model.name != "ddpmpp":
            raise ValueError("augmentation needs a network that is told of it; set model.name=ddpmpp or augmentation=0")
        if self.ema_ramp is not None and self.ema_half_life is None:
            raise ValueError("ema_ramp limits ema_half_life, which is not given; give both or neither")
        if self.latents.autoencoder is not None and self.augmentation > 0:
            raise ValueError("augmentation changes pixels, which training on latents never sees; set augmentation=0")
        return self

    @property
    def in_latents(self) -> bool:
        """Whether the network sees latents instead of pixels."""
        return self.latents.autoencoder is not None

    def canvas(self, data: DataConfig) -> tuple[int, int]:
        """Return the side in pixels and the channels of what the network sees."""
        if self.in_latents:
            return data.image_size // self.latents.downsampling, self.latents.channels
        return data.image_size, data.channels

    def check_canvas(self, data: DataConfig) -> None:
        """Raise ValueError where the network or the autoencoder cannot take images of that size."""
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
    """Most probable classes that are kept for every image, with their probabilities; no more than there are classes."""
    views: Annotated[int, Field(ge=0)] = 0
    """Average confidence over so many weak views of an image (stage 1's augmentation); 0 takes the image as it is. The
    label itself is that of the image as it is. Not with a linear probe."""
    assignment: Literal["argmax", "balanced"] = "argmax"
    """`argmax`: the most probable class, as published. `balanced`: labels whose counts follow `class_shares`
    (Sinkhorn), for when one label a class leaves classes nearly empty."""
    class_shares: tuple[Positive, ...] | None = None
    """balanced: share of the images that each class has, in the order of ids; equal shares when not given."""
    sharpness: Annotated[Positive, read_with("assignment", "balanced")] = 1.0
    """balanced: exponent of the probabilities. 1 corrects them for the wanted shares; higher ones move fewer labels."""

    @model_validator(mode="after")
    def _shares_are_used(self) -> "PseudoLabelsConfig":
        if self.class_shares is not None and self.assignment != "balanced":
            raise ValueError("class_shares has an effect with assignment=balanced alone; set assignment=balanced")
        return self


_GUIDED = ReadWhen("guidance_scale above 0", lambda sampling: sampling.guidance_scale > 0)


class SamplingConfig(Section):
    per_class: Count = 100
    """Pseudo images of every class (the paper's K)."""
    guidance_scale: Annotated[float, Field(ge=0)] = 0.4
    """s in eps + s (eps - eps_null), the paper's convention: 0 is no guidance, 0.4 is w = 1.4 elsewhere."""
    guidance_method: Annotated[Literal["classifier_free", "autoguidance"], _GUIDED] = "classifier_free"
    """What the guidance scale extrapolates from. `classifier_free`: the same network without a label, as published.
    `autoguidance`: the network as it was early in training, `weak_snapshot`, which needs no label dropout."""
    weak_snapshot: Annotated[Count, _GUIDED, read_with("guidance_method", "autoguidance")] = 1
    """autoguidance: which of the `stage2.ema_snapshots` is the weak network, counted from 1, the earliest."""
    guidance_interval: Annotated[tuple[Annotated[float, Field(ge=0)], Positive] | None, _GUIDED] = None
    """[low, high]: guide only at noise levels from low to high, which saves evaluations and keeps diversity. A level is
    sigma in image + sigma * noise, for images in [-1, 1]; it is t / (1 - t) in flow matching. All levels when not
    given."""
    sampler: Annotated[
        Literal[
            "euler", "heun", "dpm_solver_pp_2m", "dpm_solver_pp_2m_karras", "dpm_solver_fast", "dpm_solver_pp_fast"
        ],
        OrPlugin("samplers"),
    ] = "dpm_solver_pp_2m"
    """Solver of the probability-flow equation; `_karras` takes EDM's noise levels instead of uniform log-SNR. `_fast`
    are the paper's, of third order and without a last denoising: `dpm_solver_fast` for U-ViT-L (uniform log-SNR) and
    `dpm_solver_pp_fast` for U-ViT-H (uniform time, which `edm` does not have), both with 50 steps."""
    steps: Count = 20
    """Intervals between the solver's noise levels: one network evaluation each, two with `heun` in all but the last.
    `_fast` solvers join three at a time to a step of third order. Guidance doubles the evaluations."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: the network computes in it where that is safe (autocast), and the solver stays float32. For GPUs that
    have it; CPUs only emulate it."""
    ema_width: Annotated[float, Field(gt=0, lt=0.28)] | None = None
    """Draw with weights averaged by a power function of this relative width (0.05: over about the last 5 % of the
    training) instead of with stage 2's own average; needs `stage2.ema_snapshots`, and no new training."""
    images_per_shard: Count = 250
    """Pseudo images in an output shard, the unit of work and of resuming."""
    seed: int = 0
    """Fixes every image, together with the run's seed."""

    @model_validator(mode="after")
    def _interval_is_one(self) -> "SamplingConfig":
        if self.guidance_interval is not None and self.guidance_interval[0] >= self.guidance_interval[1]:
            low, high = self.guidance_interval
            raise ValueError(f"guidance_interval must be [low, high] with low < high: got [{low:g}, {high:g}]")
        return self


class EvaluationConfig(Section):
    frechet: bool = True
    """Also measure the Frechet distance of pseudo images in the stage-1 classifier's features."""


class ClusterConfig(Section):
    """How the work is spread. Nothing here changes a result beyond floating-point rounding."""

    workers: Count = 1
    """Training workers (processes, joined by DistributedDataParallel)."""
    cpus_per_worker: Positive | None = None
    """CPUs that each training worker reserves; by default an equal share of what readers leave."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """GPUs that each training worker reserves; above 0, batch inference uses GPUs too."""
    channels_last: bool = False
    """Training keeps images and convolutions channels last in memory, which is faster on recent GPUs."""
    compile: bool = False
    """Compile networks for training, and generators for sampling (`torch.compile`): a minute at the start, then faster.
    Needs a C++ compiler."""
    inference_workers: Count | None = None
    """Processes for labelling and sampling; by default one for each GPU, or else for each CPU."""
    inference_batch: Count = 256
    """Images that a classifier labels together; bounds memory."""
    encoding_batch: Count = 16
    """Images that a frozen encoder or an autoencoder encodes, or decodes, together; bounds memory."""
    sampling_batch: Count = 100
    """Images that a generator draws together; bounds memory."""
    local_cpus: Count | None = None
    """CPUs of the local Ray that a job starts when RAY_ADDRESS names no cluster; all by default."""
    keep_mib: Annotated[int, Field(ge=0)] = 1024
    """A data set whose decoded size is below this is kept decoded in the object store; a larger one streams."""
    recompute_activations: bool = False
    """Generators compute the activations of each block anew in the backward pass (activation checkpointing): much less
    memory for about a third more time."""
    gradient_accumulation: Count = 1
    """Generators: a worker computes its share of a step in so many parts, one after another, for less memory. Times
    `workers`, it must divide `data.lanes`."""
    shard_weights: Annotated[bool, ReadWhen("workers above 1", lambda cluster: cluster.workers > 1)] = False
    """Generators: with several workers, each holds a part of the weights, averages and moments (FSDP2) instead of all;
    for networks that would not fit otherwise."""
    checkpoint_seconds: Positive = 60
    """Time between two checkpoints of a training, at least; they fall on points of the loss curve."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Worker failures after which a training step gives up."""
    wait_seconds: Annotated[float, Field(ge=0)] = 0
    """Time that a step waits for nodes where the cluster has too few CPUs or GPUs: for clusters that grow by themselves
    or replace lost nodes."""


class RunConfig(Section):
    """One run of dual pseudo training."""

    preset: str | None = None
    """Name of the preset that the other settings refine."""
    name: Name = "run"
    """Name of the run's folder under `<root>/runs/`, without slashes."""
    root: Root = "dpt_results"
    """Folder or object-store URL for all results; artifacts in it are shared between runs."""
    seed: int = 0
    """Combined with every stage's own seed; `labels.seed`, which draws the labelled images, stands alone."""
    data: DataConfig = DataConfig()
    labels: LabelsConfig = LabelsConfig(per_class=4)
    stage1: ClassifierConfig = ClassifierConfig()
    """Stage 1: the semi-supervised classifier that labels every image."""
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    """What stage 1 says of every training image."""
    stage2: GeneratorConfig = GeneratorConfig()
    """Stage 2: the class-conditional diffusion model trained on pseudo-labels."""
    sampling: SamplingConfig = SamplingConfig()
    """Pseudo images drawn from the generator."""
    stage3: ClassifierConfig = ClassifierConfig()
    """Stage 3: the classifier retrained on real and pseudo images. A file gives only what differs from stage1."""
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()

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
