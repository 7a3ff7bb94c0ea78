"""No password is shown or recorded."""

from __future__ import annotations

import pytest

from surefit import masking
from surefit.config import validate
from surefit.edges.environment import command_line
from surefit.edges.remote import filled
from surefit.errors import InputError
from surefit.redaction import redact, redacted
from surefit.verbs.init import toml


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p@ss@h/d", "postgresql://me:${DATA_SECRET}@h/d"),
        ("postgresql://me:${PG}@h/d", "postgresql://me:${PG}@h/d"),
        ("https://h/t.csv?a=1&X-Amz-Signature=abc#x",
         "https://h/t.csv?a=1&X-Amz-Signature=${DATA_SECRET}#x"),
        ("postgresql://me:p/ss@h.example/d?user=a@b",
         "postgresql://me:${DATA_SECRET}@h.example/d?user=a@b"),
        ("postgresql://me:p@s/s@h/d", "postgresql://me:${DATA_SECRET}@h/d"),
        ("postgresql://me:${PG}@h/d@2", "postgresql://me:${PG}@h/d@2"),
        ("https://u:p@h.example/d@2.csv", "https://u:${DATA_SECRET}@h.example/d@2.csv"),
        ("http://h/a@b", "http://h/a@b"), ("http://h:80/a@b", "http://h:80/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("s3://bucket/x@y", "s3://bucket/x@y"), ("mailto:a@b.example", "mailto:a@b.example"),
        ("sqlite:///f.db", "sqlite:///f.db"),
        ("data/t.csv", "data/t.csv"),
    ],
)  # fmt: skip
def test_secrets_are_hidden(address: str, shown: str) -> None:
    """Passwords and keys become a variable's name; the user's own variables stay."""
    assert redacted(address) == shown


def test_nothing_recorded_holds_the_password() -> None:
    """Not the flat parameters, nor the TOML, nor the digest's input."""
    tables = {"data": {"path": "postgresql://me:s3cret@h/d", "query": "SELECT 1", "target": "y"}}
    config = validate(tables)
    assert "s3cret" not in config.to_toml() + toml(config) + str(config.flat())
    other = {"data": {**tables["data"], "path": "postgresql://me:other@h/d"}}
    assert config.digest() == validate(other).digest()


def test_variables_are_filled_in_at_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """${NAME} comes from the environment, quoted for an address; a missing one is named."""
    monkeypatch.setenv("PG", "a/b@c")
    assert filled("postgresql://me:${PG}@h/d") == "postgresql://me:a%2Fb%40c@h/d"
    monkeypatch.delenv("PG")
    with pytest.raises(InputError, match="PG, which is not set"):
        filled("postgresql://me:${PG}@h/d")


@pytest.mark.parametrize("word", ["pa/ssW0rd9", "p@ss/w0rd", "a+b/c==", "a?b=c", "a#b,c"])
def test_a_password_may_hold_what_addresses_separate_by(word: str) -> None:
    """SQLAlchemy takes such a password; it is in no text, tag, parameter or record."""
    address = f"postgresql://ann:{word}@db.example/x"
    shown = "postgresql://***@db.example/x"
    assert redact(address) == masking.tag(address) == masking.param("url", address) == shown
    assert masking.record("a.py", f"URL = {address!r}") == f"URL = {shown!r}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password='my long pass' x", "password='***' x"),
        ('password="correct horse battery staple"', 'password="***"'),
        ("password=ab&cdefghij x", "password=*** x"),
        ("password=Xy7k,9qpLm x", "password=*** x"),
        ("password=ab'cd;e x", "password=*** x"),
        (r"password='it\'s long' x", "password='***' x"),
        (r'{\"password\": \"a b c\", \"x\": 1}', r'{\"password\": \"***\", \"x\": 1}'),
        ("{'password': b'a b c', 'x': 1}", "{'password': b'***', 'x': 1}"),
        ("password='cut short\nnext", "password='***\nnext"),
        ("<b>password=&#x27;a b c&#x27;</b>", "<b>password=&#x27;***&#x27;</b>"),
        ("<td>password=abc</td><td>x</td>", "<td>password=***</td><td>x</td>"),
        ("--set 'db.password=my long pass' --x", "--set 'db.password=***' --x"),
        ("https://h/?password=a&x=1 y", "https://h/?password=***&x=1 y"),
        ("password=${PW} 'password=${PW}'", "password=${PW} 'password=${PW}'"),
        ("password='x', b='y'", "password='x', b='y'"),
    ],
)  # fmt: skip
def test_a_secret_is_hidden_whole(text: str, shown: str) -> None:
    """In its quotes, or to the next space: nothing that a password may hold ends it."""
    assert redact(text) == redact(shown) == shown


def test_a_pair_within_a_value_is_masked_whole() -> None:
    """Punctuation ends a token, and no password; what a page or code says of them stays."""
    assert masking.param("dsn", "password=Xy7k,9qpLm host=h") == "password=*** host=h"
    assert masking.param("dsn", "password=ab&cdefghij host=h") == "password=*** host=h"
    assert masking.param("dsn", "api_token=a8f5f167,x=1") == "api_token=***,x=1"
    assert masking.param("dsn", "pad_token=right,x=1") == "pad_token=right,x=1"
    assert masking.param("dsn", "password={word};host={h}") == "password={word};host={h}"


def test_the_command_line_is_recorded_as_a_shell_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a secret with spaces in an argument is known to its end."""
    monkeypatch.setattr("sys.argv", ["/bin/surefit", "train", "--set", "db.password=it's a long"])
    assert redact(command_line()) == "surefit train --set 'db.password=***'"
