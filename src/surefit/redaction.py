"""Credentials taken out of text that people read: every message, every page, every address."""

from __future__ import annotations

import re

HIDDEN = "***"
NAMES = r"password|passwd|passphrase|pwd|secret[_-]?key|secret|token|api[_-]?key|access[_-]?key"
_IN_QUERY = re.compile(
    r"(?P<head>[?&][^=&#\s'\"]*(?:token|sig|key|password|passwd|pwd|secret|credential|auth)"
    r"[^=&#\s'\"]*=)(?P<secret>[^&#\s'\"<>\\{`)\]]+)",
    re.IGNORECASE,
)
# What services issue: AWS, GitHub, Hugging Face, Slack, OpenAI and its like, JWT, private keys.
_ISSUED = re.compile(
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[opsur]_[A-Za-z0-9]{36}|github_pat_\w{40,}|hf_[A-Za-z]{34}"
    r"|xox[abprs]-[\w-]{10,}|sk-(?:[\w]+-)?[A-Za-z0-9]{32,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    r"|-----BEGIN[A-Z ]* PRIVATE KEY-----(?:[\s\w+/=\\-]*?-----END[A-Z ]* PRIVATE KEY-----)?"
)
# Not `${NAME}`: it names an environment variable, and is no secret.
_IN_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s:@'\"]*(?::(?!\$\{\w+\}@)[^/\s'\"]*)?@"
)
_NAMED = re.compile(
    rf"(?P<name>\b[\w-]*(?:{NAMES})\b['\"]?\s*[=:](?!=)\s*)"
    r"(?P<quote>['\"]?)(?!\$\{)[^\s'\"&,;]{3,}",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """What people read, without user names and passwords in URLs, and values named as secrets.

    Records that are read again go through `masking`, which keeps them what they are.

    >>> redact("postgresql://ann:s3cret@db/x?password=hunter2")
    'postgresql://***@db/x?password=***'
    """
    if "://" in text:
        text = without_keys(_IN_URL.sub(rf"\g<scheme>{HIDDEN}@", text))
    return _NAMED.sub(rf"\g<name>\g<quote>{HIDDEN}", without_issued(text))


def without_keys(text: str) -> str:
    """The text without what stands for a key or token in the queries of addresses."""
    return _IN_QUERY.sub(
        lambda m: m[0] if m["secret"].startswith("${") else m["head"] + HIDDEN, text
    )


def without_issued(text: str) -> str:
    """The text without what can be known as a credential by its form alone."""
    return _ISSUED.sub(HIDDEN, text)


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
