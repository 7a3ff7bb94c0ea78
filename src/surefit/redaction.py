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
# A password, which may hold what addresses separate by, as SQLAlchemy reads them: to the last @, or
# to one that a host with a dot, or a query, follows. A web address's port begins none.
UP_TO_HOST = (
    r"(?:\$\{\w+\}(?=@)|(?:(?!@(?:[\w-]+\.[\w.-]+(?::\d+)?/|[^@\s'\"]*\?[\w.-]+=))[^\s'\"])*)"
)
SCHEME = (
    r"[A-Za-z][A-Za-z0-9+.-]*://(?!(?:(?<=http://)|(?<=https://)|(?<=hdfs://))"
    r"(?:[^/\s:@'\"]*|\[[\da-fA-F:.]+\]):(?:\d+|\$?\{\w+\})[/?#])"
)
# Not `${NAME}`: it names an environment variable, and is no secret.
_IN_URL = re.compile(
    rf"(?P<scheme>{SCHEME})[^/\s:@'\"]*(?::(?!\$\{{\w+\}}@){UP_TO_HOST})?@", re.IGNORECASE
)
_SIGN = r"\s*[=:](?!=)\s*"
_QUOTE = r"\\?['\"]|&(?:#x27|#39|quot|#34);"  # as it is, in JSON, in HTML
_NAMED = re.compile(
    rf"(?P<name>\b[\w-]*(?:{NAMES})\\?['\"]?{_SIGN})(?!\$\{{|\*\*\*(?:[^\w*]|$))(?:"
    # within quotes to their end, or to that of the line
    rf"(?P<open>[rbuf]{{0,2}}(?P<quote>{_QUOTE}))(?!\$\{{|\*\*\*(?P=quote))"
    r"(?:(?!(?P=quote))(?:\\.|[^\\\n]|\\(?!.))){3,}(?P<close>(?P=quote)|(?=\n|\Z))"
    # else to the next space
    rf"|(?!{_QUOTE})(?:(?!</)[^\s'\"]|['\"](?=\w)){{3,}})",
    re.IGNORECASE,
)
# As shells quote an argument: --set 'db.password=correct horse'.
_ARGUMENT = re.compile(
    rf"(?<![\w=:])(?P<open>(?P<quote>['\"])[\w.-]*(?:{NAMES})=)(?!\$\{{|['\"](?!\"'\"'))"
    r"(?:'\"'\"'|\\.|(?!(?P=quote))[^\\\n]){3,}(?P=quote)",
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
    text = _ARGUMENT.sub(rf"\g<open>{HIDDEN}\g<quote>", without_issued(text))
    return _NAMED.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    return f"{match['name']}{match['open'] or ''}{HIDDEN}{match['close'] or ''}"


def without_keys(text: str) -> str:
    """The text without what stands for a key or token in the queries of addresses."""
    return _IN_QUERY.sub(
        lambda m: m[0] if m["secret"].startswith("${") else m["head"] + HIDDEN, text
    )


def without_issued(text: str) -> str:
    """The text without what can be known as a credential by its form alone."""
    return _ISSUED.sub(HIDDEN, text)


# --- addresses, which must still work once the secret is set again ---

_USER = re.compile(rf"(?P<head>{SCHEME}[^/\s:@'\"]*):(?P<secret>{UP_TO_HOST})@", re.IGNORECASE)
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
