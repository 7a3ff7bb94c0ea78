"""What can go wrong, as one tree; the command line turns each into one message and an exit code.

SurefitError
├── InputError        2   what the user gave is wrong
│   ├── ConfigError   2   surefit.toml, --set or an argument: every mistake at once
│   └── DataError     2   the table cannot be used as it is
├── ServiceError      3   MLflow, a database or the network did not answer
│   └── IntegrityError 3  stored files are not what was recorded, or do not work
├── UserCodeError     4   the user's own function failed; its traceback is kept
└── MissingExtraError 2   an optional library is not installed; names the install line
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from surefit.redaction import redact


class SurefitError(Exception):
    """A failure with a message for people.

    Args:
        what: what is wrong and why, in one or two sentences.
        fix: what to type or change; shown on a line of its own.
    """

    exit_code = 70

    def __init__(self, what: str, fix: str | None = None) -> None:
        what = redact(what)
        super().__init__(what)
        self.what = what
        self.fix = redact(fix) if fix else None

    def __str__(self) -> str:
        return f"{self.what}\n  Fix: {self.fix}" if self.fix else self.what


class InputError(SurefitError):
    """What the user gave is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration has mistakes; the message lists all of them."""


class DataError(InputError):
    """The table cannot be used as it is."""


class MissingExtraError(InputError):
    """An optional library is needed and not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed.",
            f"pip install 'surefit[{extra}]'",
        )


class ServiceError(SurefitError):
    """A service outside this process failed or did not answer."""

    exit_code = 3


class IntegrityError(ServiceError):
    """Stored files are not what was recorded, or do not work."""


class UserCodeError(SurefitError):
    """The user's own function failed."""

    exit_code = 4


class TerminatedError(SystemExit):
    """SIGTERM told this process to end; a `sys.exit` of the user's own code is no such thing."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when none is close."""
    by_lower = {k.strip().lower(): k for k in known}
    found = difflib.get_close_matches(name.strip().lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice on a misspelled name: the nearest known one, else the whole list."""
    names = sorted(known)
    close = nearest(name, names)
    return f'did you mean "{close}"?' if close else f"known: {', '.join(names)}"
