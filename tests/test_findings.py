"""What `surefit check` found, as the promotion gate hears it."""

from __future__ import annotations

import pytest

from surefit.sections import GateConfig
from surefit.verbs import findings
from surefit.verbs.findings import Found


def found(*, blocks: bool, waived: str = "") -> Found:
    listed = [{"key": "LEAK01:x", "words": "x foretells y.", "blocks": blocks, "waived": waived,
               "advice": 'data.drop = ["x"]'}]  # fmt: skip
    return Found(listed=listed, run_id="0123456789abcdef")


def test_a_serious_finding_rejects_unless_it_was_waived() -> None:
    """A blocking finding rejects and the way out is named; a waiver is told and kept."""
    config = GateConfig()
    assert findings.check(Found(listed=[]), config).verdict == "PROMOTED"
    check = findings.check(found(blocks=True), config)
    assert check.verdict == "REJECTED"
    assert check.reason == "LEAK01:x: x foretells y (check 01234567)"
    assert findings.advice(found(blocks=True), config) == (
        'data.drop = ["x"]; or accept it: [check] waive = { "LEAK01:x" = "why" }'
    )
    accepted = found(blocks=False, waived="known before the fact")
    assert findings.check(accepted, config).verdict == "PROMOTED"
    assert findings.advice(accepted, config) == ""
    assert accepted.waived == {"LEAK01:x": "known before the fact"}


@pytest.mark.parametrize(
    ("how", "verdict"), [("run", "INCONCLUSIVE"), ("require", "INCONCLUSIVE"), ("skip", "PROMOTED")]
)
def test_where_nobody_looked_only_a_skipped_question_passes(how, verdict) -> None:
    """Data that could not be checked, or were not though it is required, cannot be judged."""
    check = findings.check(Found(trouble="nobody looked"), GateConfig(check=how))
    assert (check.verdict, check.reason) == (verdict, "nobody looked")
