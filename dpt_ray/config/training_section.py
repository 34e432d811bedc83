"""Settings that all trainings share: optimizer, start and network."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, create_model, model_validator

from dpt_ray.config.effects import ReadWhen, read_with
from dpt_ray.config.places import Place
from dpt_ray.config.section import Decay, Positive, Section
from dpt_ray.errors import UserError
from dpt_ray.plugins import find, load_class


class Started(Section):
    """A training that may start with given weights."""

    @property
    def start(self) -> str | None:
        """The setting `from`, which Python code cannot write: the word is a keyword."""
        start: str | None = getattr(self, "from")
        return start


def with_from(about: str, *marks: ReadWhen) -> type[Started]:
    """Return a section with the setting `from`, which no class body can name."""
    kind: Any = Annotated[Place | None, *marks] if marks else Place | None
    field: Any = kind, Field(default=None, description=about)
    return create_model("Started", __base__=Started, **{"from": field})


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
        check_defaults(name, chosen, cls)
        return chosen.model_validate(values)


def check_defaults(name: str, chosen: type[NetworkConfig], kind: type[NetworkConfig]) -> None:
    """Refuse another default of an inherited setting: the defaults of `kind` are filled in first."""
    for field, inherited in kind.model_fields.items():
        if chosen.model_fields[field].default != inherited.default:
            raise UserError(
                f"the plug-in {name!r} changes the default of {field}, which would have no effect",
                fix=f"leave the default, or give the setting another name than {field}",
            )
