"""The base of all sections of settings, and types of their fields."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpt_ray.config.scalars import as_wanted, untyped

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


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
