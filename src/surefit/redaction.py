"""Credentials taken out of text: applied to every message, and to all that reaches a run."""

from __future__ import annotations

import re

# Not `${NAME}`: it names an environment variable, and is no secret.
_IN_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s:@'\"]*(?::(?!\$\{\w+\}@)[^/\s'\"]*)?@"
)
_NAMED = re.compile(
    r"(?P<name>\b[\w-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)\b['\"]?\s*[=:]\s*)"
    r"(?P<quote>['\"]?)(?!\$\{)[^\s'\"&,;]{3,}",
    re.IGNORECASE,
)
HIDDEN = "***"


def redact(text: str) -> str:
    """The text without user names and passwords in URLs, and without values named as secrets.

    >>> redact("postgresql://ann:s3cret@db/x?password=hunter2")
    'postgresql://***@db/x?password=***'
    """
    if "://" in text:
        text = _IN_URL.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _NAMED.sub(rf"\g<name>\g<quote>{HIDDEN}", text)


# --- addresses, which must still work once the secret is set again ---

_USER = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^/@:\s]*):(?P<secret>[^/\s]*)@", re.IGNORECASE)
_QUERY = re.compile(
    r"(?P<head>[?&][^=&#]*(?:token|sig|key|password|passwd|pwd|secret|credential|auth)[^=&#]*=)"
    r"(?P<secret>[^&#\s]+)",
    re.IGNORECASE,
)
PLACEHOLDER = "${DATA_SECRET}"
_VARIABLE = re.compile(r"\$\{\w+\}")


def redacted(address: str) -> str:
    """The address, its passwords and keys replaced by `${DATA_SECRET}`.

    A `${NAME}` of the user's own stays: it names an environment variable and is no secret. So what
    is recorded still works where the variable is set.
    """
    return _USER.sub(_user, _QUERY.sub(_key, address))


def _user(match: re.Match[str]) -> str:
    return f"{match['head']}:{_shown(match['secret'])}@"


def _key(match: re.Match[str]) -> str:
    return match["head"] + _shown(match["secret"])


def _shown(secret: str) -> str:
    return secret if _VARIABLE.fullmatch(secret) else PLACEHOLDER
