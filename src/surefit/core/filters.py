"""`--where`: MLflow's filter grammar with `or`, `in`, `not` and parentheses on top.

What MLflow understands is sent to the server (`server_part`); the rest is decided here
(`matches`), on the runs that the server gave. Where something is missing from a run, every
comparison with it is false, as in MLflow; only `is null` is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from surefit.errors import InputError, did_you_mean

Entity = Literal["metrics", "params", "tags", "attributes"]
Facts = Mapping[str, Mapping[str, Any]]  # the four entities of a run, each by key

ENTITIES: dict[str, Entity] = {
    "metric": "metrics", "metrics": "metrics",
    "param": "params", "params": "params", "parameter": "params", "parameters": "params",
    "tag": "tags", "tags": "tags",
    "attribute": "attributes", "attributes": "attributes", "attr": "attributes",
    "run": "attributes",
}  # fmt: skip
ATTRIBUTES = ("run_id", "run_name", "status", "user_id", "start_time", "end_time")
EXAMPLE = "--where \"params.`model.family` = 'lightgbm' and metrics.valid_roc_auc > 0.8\""

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    | (?P<op>!=|>=|<=|==|=|>|<)
    | (?P<mark>[(),])
    | (?P<word>(?:[A-Za-z_][\w\-/]*|`[^`]*`)(?:\.(?:[\w\-/]+|`[^`]*`|"[^"]*"))*)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Test:
    """One comparison: `entity.key op value`; `value` is a tuple after in, None after is null."""

    __test__ = False  # pytest collects nothing here

    entity: Entity
    key: str
    op: str
    value: Any = None


@dataclass(frozen=True, kw_only=True)
class All:
    """True where all parts are."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, kw_only=True)
class Either:
    """True where any part is."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, kw_only=True)
class Not:
    """True where the part is not."""

    part: Tree


Tree = Test | All | Either | Not


def parse(text: str) -> Tree:
    """The filter as a tree; an empty one is always true.

    Raises:
        InputError: naming the place, and what is understood there.
    """
    tokens = _tokens(text)
    if not tokens:
        return All(parts=())
    reader = _Reader(text, tokens)
    tree = reader.either()
    if reader.at < len(tokens):
        raise reader.wrong("and, or, or the end")
    return tree


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """(kind, text, position) of each token."""
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            rest = text[at:].strip()
            why = (
                "a quote is not closed" if rest[0] in "'\"`" else f'"{rest[:20]}" is not understood'
            )
            raise InputError(f"--where: {why}, at character {at + 1} of {text!r}.", EXAMPLE)
        kind = str(match.lastgroup)
        found.append((kind, match.group(kind), match.start(kind)))
        at = match.end()
    return found


class _Reader:
    """Recursive descent over the tokens: or binds weaker than and, and weaker than not."""

    def __init__(self, text: str, tokens: Sequence[tuple[str, str, int]]) -> None:
        self.text, self.tokens, self.at = text, tokens, 0

    def wrong(self, due: str) -> InputError:
        here = (
            f'"{self.tokens[self.at][1]}" (character {self.tokens[self.at][2] + 1})'
            if self.at < len(self.tokens) else "the end"
        )  # fmt: skip
        return InputError(f"--where: {due} is due, and {here} stands in {self.text!r}.", EXAMPLE)

    def word(self, *words: str) -> bool:
        """Take the next token where it is one of the words or marks."""
        if self.at < len(self.tokens) and self.tokens[self.at][1].lower() in words:
            self.at += 1
            return True
        return False

    def either(self) -> Tree:
        parts = [self.all()]
        while self.word("or"):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Either(parts=tuple(parts))

    def all(self) -> Tree:
        parts = [self.one()]
        while self.word("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else All(parts=tuple(parts))

    def one(self) -> Tree:
        if self.word("not"):
            return Not(part=self.one())
        if self.word("("):
            tree = self.either()
            if not self.word(")"):
                raise self.wrong("a closing parenthesis")
            return tree
        return self.test()

    def test(self) -> Test:
        if self.at >= len(self.tokens) or self.tokens[self.at][0] != "word":
            raise self.wrong("a name, such as metrics.valid_roc_auc,")
        entity, key = _field(self.tokens[self.at][1])
        self.at += 1
        if self.word("is"):
            op = "is not null" if self.word("not") else "is null"
            if not self.word("null"):
                raise self.wrong("null")
            return Test(entity=entity, key=key, op=op)
        negated = self.word("not")
        if self.word("in"):
            return Test(entity=entity, key=key, op="not in" if negated else "in",
                        value=self.values())  # fmt: skip
        if negated or self.at >= len(self.tokens):
            raise self.wrong("in" if negated else "a comparison, such as = or >,")
        op = self.tokens[self.at][1].lower()
        if op not in ("=", "==", "!=", ">", ">=", "<", "<=", "like", "ilike"):
            raise self.wrong("=, !=, >, >=, <, <=, like, ilike, in or is null")
        self.at += 1
        return Test(entity=entity, key=key, op="=" if op == "==" else op, value=self.value())

    def values(self) -> tuple[Any, ...]:
        if not self.word("("):
            raise self.wrong("an opening parenthesis, as in ('a', 'b'),")
        found = [self.value()]
        while self.word(","):
            found.append(self.value())
        if not self.word(")"):
            raise self.wrong("a comma or a closing parenthesis")
        return tuple(found)

    def value(self) -> str | float:
        kind, text, _ = self.tokens[self.at] if self.at < len(self.tokens) else ("", "", 0)
        if kind not in ("text", "number"):
            raise self.wrong("a number or a text in quotes")
        self.at += 1
        return float(text) if kind == "number" else re.sub(r"\\(.)", r"\1", text[1:-1])


def _field(word: str) -> tuple[Entity, str]:
    """What a name such as params.`model.family` names; a bare one is an attribute, as in MLflow."""
    first, dot, rest = word.partition(".")
    if not dot:
        key = first.strip("`")
        if key not in ATTRIBUTES:
            raise InputError(
                f'--where: "{word}" is no attribute of a run; {did_you_mean(key, ATTRIBUTES)}',
                f"metrics.{key}, params.{key} or tags.{key}",
            )
        return "attributes", key
    if first.lower() not in ENTITIES:
        raise InputError(
            f'--where: "{first}" is nothing of a run; {did_you_mean(first, set(ENTITIES))}', EXAMPLE
        )
    return ENTITIES[first.lower()], rest.strip('`"')


# --- what the server decides ---


def server_part(tree: Tree) -> tuple[str, Tree]:
    """MLflow's filter for what it can decide, and the tree of what is left to decide here."""
    parts = tree.parts if isinstance(tree, All) else (tree,)
    sent = [p for p in parts if isinstance(p, Test) and _mlflow_knows(p)]
    left = tuple(p for p in parts if p not in sent)
    return " and ".join(_as_mlflow(p) for p in sent), All(parts=left)


def _mlflow_knows(test: Test) -> bool:
    if test.entity == "metrics" or test.key in ("start_time", "end_time"):
        return test.op in ("=", "!=", ">", ">=", "<", "<=") and isinstance(test.value, float)
    quotes = isinstance(test.value, str) and "'" in test.value and '"' in test.value
    plain = test.op in ("=", "!=", "like", "ilike") and isinstance(test.value, str)
    return plain and not quotes and "`" not in test.key


def _as_mlflow(test: Test) -> str:
    value = repr(test.value)
    if isinstance(test.value, str):
        value = f'"{test.value}"' if "'" in test.value else f"'{test.value}'"
    elif test.key in ("start_time", "end_time"):
        value = str(int(test.value))
    return f"{test.entity}.`{test.key}` {test.op.upper()} {value}"


# --- what is decided here ---


def matches(tree: Tree, run: Facts) -> bool:
    """Whether a run is one of those that the filter asks for."""
    if isinstance(tree, All):
        return all(matches(part, run) for part in tree.parts)
    if isinstance(tree, Either):
        return any(matches(part, run) for part in tree.parts)
    if isinstance(tree, Not):
        return not matches(tree.part, run)
    known = run[tree.entity].get(tree.key)
    if tree.op in ("is null", "is not null"):
        return (known is None) == (tree.op == "is null")
    return known is not None and _holds(known, tree.op, tree.value)


def _holds(known: Any, op: str, value: Any) -> bool:
    if op in ("in", "not in"):
        return any(_same(known, v) for v in value) == (op == "in")
    if op in ("=", "!="):
        return _same(known, value) == (op == "=")
    if op in ("like", "ilike"):
        return _like(str(known), str(value), fold=op == "ilike")
    a, b = _number(known), _number(value)
    compare: dict[str, Callable[[float, float], bool]] = {
        ">": float.__gt__, ">=": float.__ge__, "<": float.__lt__, "<=": float.__le__,
    }  # fmt: skip
    return a is not None and b is not None and compare[op](a, b)


def _same(known: Any, value: Any) -> bool:
    """Numbers are equal as numbers (params are texts in MLflow), texts as texts."""
    if isinstance(value, str) and isinstance(known, str):
        return known == value
    a, b = _number(known), _number(value)
    return a == b if a is not None and b is not None else str(known) == str(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _like(text: str, pattern: str, *, fold: bool) -> bool:
    """SQL's LIKE: % is any text, _ any character."""
    parts = [{"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern]
    flags = re.DOTALL | (re.IGNORECASE if fold else 0)
    return re.fullmatch("".join(parts), text, flags) is not None
