"""Addresses without their secrets: what may be shown and recorded of a URL."""

from __future__ import annotations

import re

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
