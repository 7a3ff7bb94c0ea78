"""Secrets taken out of records that are read again: JSON, TOML and source code stay what they are.

In JSON and TOML, texts under a secret's name are masked; in Python, string literals that are given
to one; and credentials in addresses everywhere. Numbers and flags are no secrets. Under the name of
a token or key, ordinary words are none either (`pad_token = "right"`): services issue none such.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import json
import re
import tokenize
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from surefit.redaction import (
    HIDDEN,
    NAMES,
    SCHEME,
    UP_TO_HOST,
    redact,
    without_issued,
    without_keys,
)

# Tables of our records whose keys are columns, findings and hyperparameters, and whose values are
# words of ours or reasons.
_ORDINARY = re.compile(r"(?:^|\.)(?:data\.types|check\.waive|tune\.space|waived|origins)(?:\.|$)")
_SECRET = re.compile(rf"(?P<word>{NAMES})$", re.IGNORECASE)
_ISSUED_ONLY = re.compile(r"token|api[_-]?key|access[_-]?key", re.IGNORECASE)
_WORD = r"(?:[a-z]{1,10}|[A-Z]{1,10}|[A-Z][a-z]{1,9})"
_WORDS = re.compile(rf"[<\[(]*/?{_WORD}(?:[ _/-]{_WORD})*[>\])]*[.:]?")
_PLACE = r"\$\{\w+\}|\$[A-Z_]{3,}|\{[^{}]*\}|%(?:\(\w+\))?[sdr]|<[\w -]+>|\*{3}"
_PLACES = re.compile(rf"(?:{_PLACE})+")
_USER = re.compile(
    rf"(?P<scheme>{SCHEME})(?P<user>[^/\s:@'\"]*)(?::(?P<word>{UP_TO_HOST}))?@", re.IGNORECASE
)
_STOPS = r"&,;()\[\]{}\\"  # what ends an issued token, and any name or value in source


def _pair(bare: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<name>{NAMES})(?P<gap>\\?['\"]?\s*\]?\s*(?::\s*[A-Za-z_][\w.\[\] |]*?)?\s*"
        r"(?P<sign>=(?!=)|:)\s*(?:[rRbBuUfF]{1,2}(?=['\"]))?)"
        r"(?:(?P<quote>\\?['\"])(?P<inside>(?:(?!(?P=quote))(?:\\.|[^\\\n]))*)(?P=quote)"
        rf"|(?P<bare>{bare}))",
        re.IGNORECASE,
    )


_IN_SOURCE = _pair(rf"[^\s'\"{_STOPS}]+")
_IN_TEXT = _pair(r"(?!['\"])(?:[^\s'\"]|['\"](?=\w))+")
_CODE = re.compile(r"[A-Za-z_][\w.]*|[-+]?[\d.]+\w?")  # a name or a number
_LONG = re.compile(r"'''|\"\"\"")  # opens a text of several lines
_LOOKED_UP = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")  # self.token
_VARIABLE = re.compile(rf"[A-Z][A-Z0-9]*_(?:[A-Z0-9]+_)*(?:{NAMES.upper()})")
_TYPES = {
    "none", "null", "true", "false", "str", "string", "int", "float", "bool", "object", "number",
    "category", "text", "date", "day-first date",
}  # fmt: skip
_WRAPPERS = {"str", "bytes", "Secret", "SecretStr", "SecretBytes", "b64decode", "fromhex"}
_HEAD = "if 1:\n"  # before a function that was cut out of its class or block


def record(path: str, text: str) -> str:
    """A text without secrets, masked as the kind of record that its path says it is."""
    kinds = {".json": as_json, ".toml": as_toml, ".py": as_python, ".diff": as_diff}
    return kinds.get(PurePosixPath(path).suffix, redact)(text)


def param(key: str, value: Any) -> str:
    """A parameter's value as text without secrets."""
    shown = masked(value, key)
    return shown if isinstance(shown, str) else json.dumps(shown, default=str)


def tag(text: str) -> str:
    """A tag's value without secrets: JSON stays JSON."""
    return as_json(text) if text[:1] in ("{", "[") else redact(text)


def is_secret(name: str, value: str) -> bool:
    """Whether a text under that name is a credential.

    >>> is_secret("db_password", "hunter"), is_secret("pad_token", "right"), is_secret("path", "x7")
    (True, False, False)
    """
    found = _SECRET.search(name)
    if found is None or len(value) < 3 or _PLACES.fullmatch(value):
        return False
    if value.lower() in {*_TYPES, name.lower()} or _VARIABLE.fullmatch(value):
        return False
    return not (_ISSUED_ONLY.fullmatch(found["word"]) and _WORDS.fullmatch(value))


# --- values ---


def as_json(text: str) -> str:
    """JSON of an object or a list without secrets; any other text as people read it."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return redact(text)
    if not isinstance(values, dict | list):
        return redact(text)
    shown = masked(values)
    if shown == values:
        return text
    return json.dumps(shown, indent=1 if "\n" in text else None, ensure_ascii=text.isascii())


def as_toml(text: str) -> str:
    """TOML without secrets; what is no TOML is taken as source."""
    import tomlkit

    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError):
        return as_source(text)
    shown = masked(values)
    return text if shown == values else tomlkit.dumps(shown)


def masked(value: Any, name: str = "") -> Any:
    """The value, texts that are secrets masked; of the same structure.

    Args:
        name: the dotted name that it stands under.

    >>> masked({"min_token": 1024, "api_token": "a8f5f167", "data": {"types": {"token": "x1y"}}})
    {'min_token': 1024, 'api_token': '***', 'data': {'types': {'token': 'x1y'}}}
    """
    if isinstance(value, Mapping):
        return {_key(k): masked(v, _under(name, str(k))) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [masked(v, name) for v in value]
    if not isinstance(value, str):
        return value
    if not _ORDINARY.search(name) and is_secret(name, value):
        return HIDDEN
    return in_text(value)


def _key(key: Any) -> Any:
    return in_text(key) if isinstance(key, str) else key


def _under(name: str, key: str) -> str:
    """A value's name: below a secret's name all is named so."""
    if _SECRET.search(name) and not _SECRET.search(key):
        return f"{key}.{name}"
    return f"{name}.{key}" if name else key


def in_text(text: str) -> str:
    """A text that is a value: credentials in addresses, and pairs such as password=hunter2."""
    return _IN_TEXT.sub(lambda m: _paired(m, _plain), _known(text))


def as_diff(text: str) -> str:
    """A diff without secrets: its files of Python as source, the others as people read them."""
    files = re.split(r"(?m)^(?=diff --git )", text)
    return "".join(
        as_source(f) if f.partition("\n")[0].endswith(".py") else redact(f) for f in files
    )


def as_source(text: str) -> str:
    """Source that cannot be parsed: what is quoted under a secret's name, and addresses."""
    return _IN_SOURCE.sub(lambda m: _paired(m, _literal), _known(text))


def _known(text: str) -> str:
    if "://" in text:
        text = without_keys(_USER.sub(_user, text))
    return without_issued(text)


def _user(match: re.Match[str]) -> str:
    word = match["word"]
    secret = _mixed(match["user"], 16) if word is None else not (
        len(word) == 0 or _PLACES.fullmatch(word))  # fmt: skip
    return f"{match['scheme']}{HIDDEN}@" if secret else match[0]


def _paired(match: re.Match[str], judge: Any) -> str:
    head, inside = match["name"] + match["gap"], match["inside"]
    if inside is not None:
        quote = match["quote"]
        return head + quote + HIDDEN + quote if is_secret(match["name"], inside) else match[0]
    if not judge(match):
        return match[0]
    bare = match["bare"]
    rest = bare.removeprefix(_issued(match)) if _ISSUED_ONLY.fullmatch(match["name"]) else ""
    return head + HIDDEN + (rest or "." * bare.endswith("."))


def _issued(match: re.Match[str]) -> str:
    return re.split(f"[{_STOPS}]", match["bare"], maxsplit=1)[0]


def _plain(match: re.Match[str]) -> bool:
    """Whether what follows a name without quotes is a secret, in a text."""
    first, bare = _issued(match), match["bare"]
    if _PLACES.match(bare):
        return False
    if len(first) < 3 and not _ISSUED_ONLY.fullmatch(match["name"]):
        first = bare  # a password may hold what ends a token
    return is_secret(match["name"], first) and (match["sign"] == "=" or _mixed(bare, 6))


def _literal(match: re.Match[str]) -> bool:
    """Whether what follows a name without quotes is a secret, in source: names are none."""
    before = match.string[match.string.rfind("\n", 0, match.start()) + 1 : match.start()]
    quoted = any(before.count(q) % 2 for q in "'\"") or _LONG.search(before)
    if quoted or "#" in before:  # where commented code looks something up, it is left
        return _plain(match) and not _LOOKED_UP.fullmatch(match["bare"])
    bare = match["bare"]
    return is_secret(match["name"], bare) and _mixed(bare, 8) and not _CODE.fullmatch(bare)


def _mixed(text: str, least: int) -> bool:
    """Whether letters and digits are mixed as in what a machine made up."""
    return len(text) >= least and bool(re.search(r"\d", text) and re.search(r"[A-Za-z]", text))


# --- Python ---


def as_python(text: str) -> str:
    """Python without secrets in its literals and comments; it parses as it did.

    >>> as_python("def load(path, token=None, password='hunter2'): ...  # 'token' is optional")
    "def load(path, token=None, password='***'): ...  # 'token' is optional"
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes: whoever imports the file hears them
        for head in ("", _HEAD):
            with contextlib.suppress(SyntaxError, ValueError, RecursionError):
                return _edited(head + text, ast.parse(head + text)).removeprefix(head)
    return as_source(text)


def _edited(text: str, tree: ast.AST) -> str:
    lines = text.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    whole = b"".join(lines)
    edits = []
    named = dict(_named(tree))
    for node in _strings(tree):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        shown = _shown(node, whole[start:end].decode(), named.get(id(node), ""))
        edits.append((start, end, shown.encode()))
    edits += _comments(text, starts, whole)
    for start, end, shown_bytes in sorted(edits, reverse=True):
        whole = whole[:start] + shown_bytes + whole[end:]
    return whole.decode()


def _strings(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """The string literals, an f-string as one."""
    left = [node]
    while left:
        node = left.pop()
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ):
            yield node
        else:
            left.extend(ast.iter_child_nodes(node))


def _shown(node: ast.Constant | ast.JoinedStr, source: str, name: str) -> str:
    """A literal's source without what is secret in it."""
    if any(is_secret(name, part) for part in _parts(node)):
        return _emptied(source)
    shown = in_text(source)
    if isinstance(node, ast.JoinedStr):
        return shown if shown == source or _value(shown) is not None else _emptied(source)
    value = _parts(node)[0]
    wanted = in_text(value)
    if wanted == value:
        return source
    if _value(shown) == wanted:
        return shown
    return repr(wanted if isinstance(node.value, str) else wanted.encode("latin-1"))


def _parts(node: ast.Constant | ast.JoinedStr) -> list[str]:
    """The text of a literal, of an f-string what stands between its fields."""
    if isinstance(node, ast.JoinedStr):
        return [p.value for p in node.values
                if isinstance(p, ast.Constant) and isinstance(p.value, str)]  # fmt: skip
    assert isinstance(node.value, str | bytes)
    return [node.value if isinstance(node.value, str) else node.value.decode("latin-1")]


def _emptied(source: str) -> str:
    opening = re.match(r"[A-Za-z]*('''|\"\"\"|'|\")", source)
    assert opening is not None
    return f"{opening[0]}{HIDDEN}{opening[1]}"


def _value(source: str) -> Any:
    """What a literal says: its text, an f-string's syntax tree, None where it is none."""
    try:
        node = ast.parse(f"({source})", mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return _parts(node)[0] if isinstance(node, ast.Constant) else node


def _comments(text: str, starts: list[int], whole: bytes) -> Iterator[tuple[int, int, bytes]]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                start = starts[row - 1] + len(token.line[:column].encode())
                end = start + len(token.string.encode())
                if whole[start:end].decode(errors="replace") == token.string:
                    yield start, end, as_source(token.string).encode()
    except (tokenize.TokenError, SyntaxError, IndexError):
        return


def _named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The literals that are given to a secret's name: their ids, and the name."""
    for node in ast.walk(tree):
        for name, value in _given(node):
            if value is not None and _SECRET.search(name):
                yield from ((id(literal), name) for literal in _literals(value))


def _given(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """What a node of the syntax tree gives to a name."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _assigned(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        yield _called(node.target), node.value
    elif isinstance(node, ast.keyword):
        yield node.arg or "", node.value
    elif isinstance(node, ast.arguments):
        placed = [*node.posonlyargs, *node.args]
        for arg, default in zip(placed[::-1], node.defaults[::-1], strict=False):
            yield arg.arg, default
        for arg, default_or_none in zip(node.kwonlyargs, node.kw_defaults, strict=True):
            yield arg.arg, default_or_none
    elif isinstance(node, ast.Dict):
        yield from ((_called(k), v) for k, v in zip(node.keys, node.values, strict=True))
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for how, (one, other) in zip(node.ops, itertools.pairwise(sides), strict=True):
            if isinstance(how, ast.Eq | ast.NotEq):
                yield _called(one), other
                yield _called(other), one
    elif isinstance(node, ast.Call):  # setdefault("API_TOKEN", "…")
        yield from (_beside(*two) for two in itertools.pairwise(node.args))
    elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
        yield _beside(*node.elts)


def _assigned(target: ast.AST, value: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    sequences = ast.Tuple | ast.List
    if isinstance(target, sequences) and isinstance(value, sequences):
        for one, given in zip(target.elts, value.elts, strict=False):
            yield _called(one), given
    yield _called(target), value


def _beside(name: ast.AST, value: ast.AST) -> tuple[str, ast.AST]:
    """A pair that may be a name and its value, or two words."""
    return ("token" if _SECRET.search(_called(name)) else ""), value


def _called(node: ast.AST | None) -> str:
    """The name of what is assigned or looked up, "" for what has none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _called(node.slice) if isinstance(node.slice, ast.Constant) else ""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ""


def _literals(node: ast.AST) -> Iterator[ast.AST]:
    """The literals that an expression may be, or is put together from; not what it is asked by."""
    if isinstance(node, ast.Constant | ast.JoinedStr):
        yield node
    elif isinstance(node, ast.IfExp):
        yield from (found for part in (node.body, node.orelse) for found in _literals(part))
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.List | ast.Tuple | ast.Set | ast.Starred):
        yield from (found for part in ast.iter_child_nodes(node) for found in _literals(part))
    elif isinstance(node, ast.Dict):
        yield from (found for part in node.values for found in _literals(part))
    elif isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute):  # "…".encode()
            yield from _literals(function.value)
        if _called(function) in _WRAPPERS:
            yield from (found for part in node.args for found in _literals(part))
