"""The one error type that users see: what is wrong, where, and what to do about it, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dpt_ray.config.places import redacted
from dpt_ray.text import one_line, printable

_LONGEST = 1500
"""Characters of what, where and fix each. They may quote data of any length."""


class UserError(Exception):
    """A mistake in settings, data or environment that the person running the job can mend.

    Job scripts print its message as one line and exit with status 2; no traceback is shown.
    Programming mistakes stay ordinary exceptions. Passwords and signatures in URLs are hidden.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        self.what, self.where, self.fix = _bounded(what), where and _bounded(where), fix and _bounded(fix)
        message = f"{self.where}: {self.what}" if where else self.what
        super().__init__(message + (f"; {self.fix}" if fix else ""))

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # keyword-only arguments do not survive the default pickling
        return _rebuild, (type(self), self.what, self.where, self.fix)


class StoreFailureError(UserError):
    """A store does not answer, or refuses this user. That says nothing of its data, so none is left out for it."""


@contextmanager
def expecting(what: str, where: str, fix: str | None = None) -> Iterator[None]:
    """Report a document that has not the expected form in one line, whatever its reader raised over it.

    Args:
        what: the expected form, with its article, such as "a manifest".
        where: URL of the document.
        fix: what to do.

    Raises:
        UserError: the block raised an error of the kind that missing keys and wrong types cause.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"is not {what} ({reason})", where=where, fix=fix) from None


def _bounded(text: str) -> str:
    """Return a part of a message on one line, without secrets."""
    text = printable(" ".join(redacted(text).split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _rebuild(kind: type[UserError], what: str, where: str | None, fix: str | None) -> UserError:
    return kind(what, where=where, fix=fix)
