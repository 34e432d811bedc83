"""The error type that users see. Its message is one line: what is wrong, where, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dpt_ray.config.places import redacted
from dpt_ray.text import one_line, printable

_LONGEST = 1500
"""Maximum number of characters of each of what, where and fix, since they may quote data of any length."""


class UserError(Exception):
    """An error in settings, data or environment that the user can correct.

    The command line prints its message as one line, without a traceback, and exits with status 2. Programming errors
    stay ordinary exceptions. Passwords and signatures in URLs are hidden.

    Args:
        what: what is wrong, as a clause whose subject is `where`.
        where: the setting, file or URL that is wrong.
        fix: what to do.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        self.what, self.where, self.fix = _bounded(what), where and _bounded(where), fix and _bounded(fix)
        message = f"{self.where}: {self.what}" if where else self.what
        line = printable(" ".join((message + (f"; {self.fix}" if fix else "")).split()))
        super().__init__(_cut(line, 3 * _LONGEST))  # an escaped character is several

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # keyword-only arguments do not survive the default pickling
        return _rebuild, (type(self), self.what, self.where, self.fix)


class StoreFailureError(UserError):
    """A store does not answer, or refuses access. No data is skipped for it, since the data itself may be intact."""


class TryAgainError(UserError):
    """A process that a job needs has died. Nothing is lost: the same command resumes.

    Args:
        what: what died.
        where: its place, if that is known.
        fix: what to do if it dies again.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        super().__init__(what, where=where, fix=RESUME if fix in (None, RESUME) else f"{RESUME}; {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        fix = (self.fix or "").removeprefix(RESUME).removeprefix("; ") or None
        return _rebuild, (type(self), self.what, self.where, fix)


RESUME = "run the same command again to resume"
"""Remedy of errors after which nothing is lost."""


@contextmanager
def expecting(what: str, where: str, fix: str | None = None) -> Iterator[None]:
    """Turn errors of a document's reader into a `UserError`: the document does not have the expected form.

    Args:
        what: the expected form, with its article, such as "a manifest".
        where: URL of the document.
        fix: what to do.

    Raises:
        UserError: the block raised an error that missing keys or wrong types cause.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"is not {what} ({reason})", where=where, fix=fix) from None


def _bounded(text: str) -> str:
    """Return a part of a message without secrets."""
    return _cut(redacted(text), _LONGEST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _rebuild(kind: type[UserError], what: str, where: str | None, fix: str | None) -> UserError:
    return kind(what, where=where, fix=fix)
