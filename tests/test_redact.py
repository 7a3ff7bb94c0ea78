"""No password is shown or recorded."""

from __future__ import annotations

import pytest

from surefit.config import validate
from surefit.edges.remote import filled
from surefit.errors import InputError
from surefit.redaction import redacted
from surefit.verbs.init import toml


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p@ss@h/d", "postgresql://me:${DATA_SECRET}@h/d"),
        ("postgresql://me:${PG}@h/d", "postgresql://me:${PG}@h/d"),
        ("https://h/t.csv?a=1&X-Amz-Signature=abc#x",
         "https://h/t.csv?a=1&X-Amz-Signature=${DATA_SECRET}#x"),
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
