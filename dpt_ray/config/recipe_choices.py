"""A recipe's choices: values for settings that the user leaves open, each with its reason."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dpt_ray.config.schema import ONE_OF

Value = str | int | float | bool


@dataclass(frozen=True)
class Choice:
    """A value for a setting.

    Attributes:
        name: dotted name of the setting.
        value: its value.
        why: the reason, as the end of a line of text.
    """

    name: str
    value: Value
    why: str

    @property
    def override(self) -> str:
        """The choice in the form of `--set`."""
        text = str(self.value).lower() if isinstance(self.value, bool) else str(self.value)
        return f"{self.name}={text}"

    def __str__(self) -> str:
        return f"{self.override}: {self.why}"


def left_open(choices: Iterable[Choice], given: Collection[str]) -> list[Choice]:
    """Return the choices of settings that are not given, nor replaced by a given one (`ONE_OF`).

    Args:
        choices: what a recipe would choose.
        given: dotted names of the given settings.
    """
    return [choice for choice in choices if not _is_given(choice.name, given)]


def _is_given(name: str, given: Collection[str]) -> bool:
    section, _, setting = name.partition(".")
    excluding = [names for names in ONE_OF.get(section, ()) if setting not in names]
    others = {f"{section}.{other}" for names in excluding for other in names} if _excludes(section, setting) else set()
    return name in given or not others.isdisjoint(given)


def _excludes(section: str, setting: str) -> bool:
    return any(setting in names for names in ONE_OF.get(section, ()))
