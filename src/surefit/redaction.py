"""Credentials taken out of text: applied to every message, and to all that reaches a run."""

from __future__ import annotations

import re

_IN_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s:@'\"]*(?::[^/\s'\"]*)?@")
_NAMED = re.compile(
    r"(?P<name>\b[\w-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)\b['\"]?\s*[=:]\s*)"
    r"(?P<quote>['\"]?)[^\s'\"&,;]{3,}",
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
