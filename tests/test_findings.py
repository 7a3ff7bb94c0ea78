"""What `surefit check` found, as the promotion gate hears it."""

from __future__ import annotations

from surefit.verbs import findings


def found(*, blocks: bool, waived: str = "") -> list[dict[str, object]]:
    return [{"key": "LEAK01:x", "words": "x foretells y", "blocks": blocks, "waived": waived}]


def test_a_serious_finding_rejects_unless_it_was_waived() -> None:
    """No check is told, a blocking finding rejects, and a waiver is told and kept."""
    (unasked,) = findings.checks(None)
    assert (unasked.verdict, "was not run" in unasked.reason) == ("PROMOTED", True)
    assert findings.checks([])[0].verdict == "PROMOTED"
    (check,) = findings.checks(found(blocks=True))
    assert check.verdict == "REJECTED"
    assert "x foretells y" in check.reason
    accepted = found(blocks=False, waived="known before the fact")
    assert findings.checks(accepted)[0].verdict == "PROMOTED"
    assert findings.waived(accepted) == {"LEAK01:x": "known before the fact"}
