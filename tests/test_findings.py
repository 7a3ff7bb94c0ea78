"""What `surefit check` found, as the promotion gate hears it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planted import clean
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


def page(folder: Any, run: str) -> str:
    """The report of a new evaluation."""
    return Path(folder.report(folder.evaluate(run).run_id, out=folder.path / "page.html").path
                ).read_text("utf-8")  # fmt: skip


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_report_tells_what_was_found_of_its_own_question(folder: Any, at_hand: bool) -> None:
    """Not of another target, split or features of the same table, with the table at hand or not."""
    frame = clean(np.random.default_rng(0), 300, "binary")
    other = np.random.default_rng(1).permutation(frame["y"])
    frame = frame.assign(other=other, leak=other)
    frame.to_csv(folder.path / "t.csv", index=False)
    few = {"name": "two", "split.folds": 2, "model.family": "linear"}
    mine = folder.train("t.csv", target="y", set=few)
    theirs = folder.train("t.csv", target="other", set=few)
    assert {f.key for f in folder.check("t.csv", target="other", set=few).serious} == {
        "LEAK01:leak"}  # fmt: skip
    if not at_hand:
        (folder.path / "t.csv").unlink()
    unseen = "No check has looked at these data"
    assert "LEAK01:leak" in page(folder, theirs.run_id)
    assert unseen in page(folder, mine.run_id)
    if at_hand:
        folder.check("t.csv", target="y", set=few)
        folder.check("t.csv", target="y", set={**few, "data.drop": ["code"]})
        assert unseen not in page(folder, mine.run_id)
        assert "LEAK01:leak" in page(folder, theirs.run_id)
        parted = folder.train("t.csv", target="y", set={**few, "split.seed": 1})
        assert unseen in page(folder, parted.run_id)
