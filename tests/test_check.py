"""surefit check finds planted leaks, keeps quiet on clean tables, and reads no test target."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import surefit
from planted import clean, honest, planted
from surefit.core import data as tables
from surefit.core import metrics, split
from surefit.core.columns import about_columns
from surefit.core.findings import CODES, Finding, rows_of, waive, without_echoes
from surefit.core.leaks import leaks
from surefit.edges import sources
from surefit.errors import ConfigError
from surefit.sections import DataConfig, GateConfig, SplitConfig
from surefit.verbs import findings as found_by
from surefit.verbs import workspace
from surefit.verbs.reporter import Reporter

LEAKS = ("LEAK", "GROUP", "DUP")


def found(frame: pd.DataFrame, target: str = "y", how: Any = None, **keys: Any) -> list[Finding]:
    data = tables.prepare(frame, DataConfig(path="t", target=target, **keys))
    divided = split.make(data, SplitConfig(**(how or {})))
    rows = rows_of(data, divided, metrics.default(data.task))
    return waive(without_echoes([*leaks(rows), *about_columns(rows)]), {})[0]


def keys(findings: list[Finding], severity: str = "serious") -> set[str]:
    return {f.key for f in findings if f.severity == severity}


def test_planted_leaks_and_false_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    """Leaks of many kinds and sizes are found, clean tables raise nothing serious; both counted."""
    n = int(os.environ.get("SUREFIT_CHECK_ROWS", "800"))
    rounds = int(os.environ.get("SUREFIT_CHECK_ROUNDS", "1"))
    missed, only_warned, total, alarms = [], [], 0, []
    for seed in range(rounds):
        for table in planted(n, seed):
            total += 1
            told = [f for f in found(table.frame) if set(f.columns) & table.columns]
            told = [f for f in told if f.code.startswith(LEAKS)]
            if not told:
                missed.append(table.kind)
            elif not any(f.severity == "serious" for f in told):
                only_warned.append(table.kind)
    quiet = 15 * rounds
    for table in honest(n, 0, quiet):
        if any(f.code.startswith(LEAKS) for f in found(table.frame)):
            alarms.append(table.kind)
    with capsys.disabled():
        print(f"\n{total} planted leaks: {total - len(missed)} found "
              f"({total - len(missed) - len(only_warned)} serious); "
              f"false alarms on {len(alarms)} of {quiet} clean tables")  # fmt: skip
        print(f"  warned: {sorted(set(only_warned))}\n  missed: {sorted(set(missed))}")
    assert total >= 30
    assert len(missed) <= 0.15 * total
    assert len(alarms) <= 0.05 * quiet


def test_the_target_of_test_rows_is_not_read() -> None:
    """Other targets in test rows change no finding."""
    frame = clean(np.random.default_rng(0), 600, "binary").assign(row=range(600))
    keyed = {"id": "row"}
    data = tables.prepare(frame, DataConfig(path="t", target="y", **keyed))
    sealed = split.make(data, SplitConfig()).test_rows
    other = frame.copy()
    other.loc[sealed, "y"] = np.where(other.loc[sealed, "y"] == "yes", "no", "yes")
    assert found(frame, **keyed) == found(other, **keyed)


def test_groups_and_times_named_are_no_findings() -> None:
    """Once the group or the time is named, nothing is torn."""
    rng = np.random.default_rng(0)
    from planted import subjects

    frame = subjects(clean(rng, 800, "regression"), rng)
    assert "GROUP01:subject" in keys(found(frame))
    assert not {k for k in keys(found(frame, group="subject")) if k.startswith("GROUP")}


def test_dates_after_the_rows_own_time() -> None:
    """With a time column, a later date is known only afterwards."""
    frame = clean(np.random.default_rng(0), 600, "binary")
    frame["closed"] = (frame["when"] + pd.Timedelta("9D")).where(np.arange(600) % 2 == 0)
    assert "LEAK04:closed" in keys(found(frame, time="when"))
    for unit in ("D", "s"):
        step = frame["when"].to_numpy().astype(f"datetime64[{unit}]").astype("int64")
        numbered = found(frame.drop(columns="when").assign(step=step), time="step")
        assert not any(f.code == "LEAK04" for f in numbered)  # dates and numbers do not compare


def test_copies_with_ids_of_their_own_are_torn() -> None:
    """Equal rows under other ids land on both sides, and are found."""
    frame = clean(np.random.default_rng(0), 400, "binary")
    doubled = pd.concat([frame, frame.head(100)], ignore_index=True)
    doubled["key"] = [f"k{i}" for i in range(500)]
    assert "DUP01" in keys(found(doubled, id="key"))
    assert "DUP01" not in keys(found(doubled.drop(columns="key")))


def test_what_the_newest_rows_lack_is_written_down_later() -> None:
    """A column that old rows have and new ones lack is a warning; gaps at random are none."""
    frame = clean(np.random.default_rng(0), 900, "binary").sort_values("when", ignore_index=True)
    late = np.arange(900) > 500
    frame["outcome"] = np.where(late, np.nan, np.arange(900) % 7)
    assert keys(found(frame, time="when"), "warning") == {"LEAK04:outcome"}


def test_a_test_file_that_holds_training_rows() -> None:
    """Copies of training rows among given test rows are serious; equal rows by chance are not."""
    frame = clean(np.random.default_rng(0), 900, "binary")

    def told(frame: pd.DataFrame) -> set[str]:
        part = np.where(np.arange(len(frame)) < 700, "train", "test")
        data = tables.prepare(frame, DataConfig(path="t", target="y"), part=part.astype(object))
        rows = rows_of(data, split.make(data, SplitConfig()), metrics.default(data.task))
        return keys(list(leaks(rows)))

    assert not told(frame)
    frame.loc[800:849] = frame.loc[0:49].to_numpy()
    assert told(frame) == {"DUP01"}
    assert not told(frame[["level", "code", "y"]])


def test_equal_rows_by_chance_are_no_copies() -> None:
    """A few columns of a few levels under ids of their own give nothing serious."""
    frame = clean(np.random.default_rng(0), 900, "binary")[["level", "code", "y"]]
    assert not keys(found(frame.assign(key=[f"k{i}" for i in range(900)]), id="key"))


def test_rows_that_repeat_and_groups_are_no_drift() -> None:
    """A row repeated forty times or four hundred, or few groups: a note, and that is no drift."""
    frame = clean(np.random.default_rng(0), 900, "binary")
    for copies, words in ((40, "on one side of the split"), (400, "divided as others are")):
        doubled = pd.concat([frame, *[frame.head(1)] * copies], ignore_index=True)
        (finding,) = [f for f in found(doubled) if f.code == "DUP01"]
        assert finding.severity == "note"
        assert words in finding.words
    named = doubled.assign(key=[f"k{i}" for i in range(len(doubled))])
    assert not keys(found(named, id="key"))
    assert not [f for f in found(doubled) if f.code == "DRIFT01"]
    groups = np.arange(900) // 30
    shifted = frame.assign(house=groups, a=frame["a"] + 3.0 * groups)
    assert not [f for f in found(shifted, group="house") if f.code == "DRIFT01"]


def test_rows_that_repeat_tell_nothing_of_themselves() -> None:
    """Thirty copies of each row, or of each group's number: no column knows the target by them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    frame["y"] = rng.integers(0, 2, 60)
    assert keys(found(pd.concat([frame] * 30, ignore_index=True)), "serious") == set()
    who = np.repeat(np.arange(30), 40)
    people = pd.DataFrame({"who": who, "age": rng.normal(size=30)[who].round(3)})
    people["noise"] = rng.normal(size=len(who))
    people["y"] = rng.normal(size=30)[who] + rng.normal(size=len(who)) / 9
    assert not [f for f in found(people, group="who") if f.code.startswith("LEAK")]


def test_rows_that_repeat_but_for_a_dropped_column_are_not_said_to_be_kept() -> None:
    """Rows that a dropped column sets apart stand on both sides, and no finding says otherwise."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 3, (1000, 4)), columns=list("abcd"))
    frame["y"], frame["stamp"] = rng.integers(0, 2, 1000), rng.normal(size=1000)
    told = found(frame, drop=["stamp"])
    assert not [f for f in told if "on one side" in f.words]
    assert [f for f in found(frame.drop(columns="stamp")) if f.code == "DUP01"]


def test_people_of_one_survey_are_no_copies() -> None:
    """Rows that differ in the weight they stand for are not called copies on both sides."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc"))
    people["y"] = rng.integers(0, 2, 400)
    twice = pd.concat([people, people], ignore_index=True)
    twice["w"] = rng.exponential(size=800)
    assert not [f for f in found(twice, weight="w") if f.code == "DUP01"]


def test_gaps_do_not_hide_a_copy_of_the_target() -> None:
    """A copy of a numeric target with a tenth missing is serious, and says where it holds."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "y": rng.normal(size=300)})
    frame["copy"] = frame["y"].where(rng.random(300) > 0.12)
    (finding,) = [f for f in found(frame) if f.code == "LEAK01"]
    assert finding.severity == "serious"
    assert "where it has a value" in finding.words


def test_columns_that_say_the_same() -> None:
    """Names for codes, other units, and a number turned round say the same; two measures do not."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    frame.loc[::10, ["a"]] = np.nan
    frame["k"] = rng.integers(0, 4, 300)
    frame["y"] = rng.integers(0, 2, 300)
    assert not [f for f in found(frame) if f.code == "COL03"]
    more = frame.assign(inch=frame["a"] / 2.54 + 3, turned=-frame["b"], name=frame["k"].map(str))
    more["said"] = [f"word {i} of many" for i in range(300)]
    more["again"], more["other"] = more["said"], more["said"].str.replace("many", "all")
    same = {f.columns for f in found(more, types={"name": "category"}) if f.code == "COL03"}
    assert same == {("a", "inch"), ("b", "turned"), ("k", "name"), ("said", "again")}


def test_many_columns_take_seconds_not_minutes() -> None:
    """Eight hundred columns of whole numbers are looked at in one pass, not pair by pair."""
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.integers(0, 40, (300, 800)), columns=[f"w{i}" for i in range(800)])
    assert not keys(found(pd.concat([clean(rng, 300, "binary"), wide], axis=1)))


def test_the_lesser_findings() -> None:
    """Constants, repeats, mixtures, unseen levels, noise, small classes, drift, outliers."""
    rng = np.random.default_rng(0)
    n = 900
    frame = pd.DataFrame({
        "same": 1, "none": np.nan, "level": rng.choice(list("abc"), n), "number": np.arange(n),
        "mix": rng.choice(["1", "2", "x"], n), "y": rng.choice(["no", "yes"], n),
    })  # fmt: skip
    frame["again"] = frame["level"].map({"a": 1, "b": 2, "c": 3})
    frame.loc[:2, "y"] = "rare"
    frame["part"] = np.where(np.arange(n) < 700, "train", "test")
    frame["late"] = np.where(frame["part"] == "test", 3.0, 0.0) + rng.normal(size=n)
    frame.loc[n - 30 :, "level"] = "new"
    data = tables.prepare(
        frame, DataConfig(path="t", target="y"), no_features=("part",),
        part=split.read_parts(frame["part"], "part"),
    )  # fmt: skip
    rows = rows_of(data, split.make(data, SplitConfig()), metrics.default(data.task))
    codes = {f.code for f in [*leaks(rows), *about_columns(rows)]}
    assert {"COL01", "ID01", "COL02", "CAT01", "CLASS01", "DRIFT01"} <= codes
    assert "COL03:level,again" in {f.key for f in about_columns(rows)}
    few = pd.DataFrame({"a": rng.integers(0, 3, n), "b": rng.integers(0, 3, n),
                        "y": rng.choice(["no", "yes"], n)})  # fmt: skip
    assert "NOISE01" in keys(found(few), "warning")
    far = clean(rng, 400, "regression")
    far.loc[3:9, "y"] = 1e6
    assert "OUT01:y" in keys(found(far), "note")


@pytest.mark.filterwarnings("ignore:The ``noload`` loader")  # MLflow's own, under SQLAlchemy 2.1
def test_the_verb_records_a_run_and_the_gate_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serious findings stand in the run, block the gate, and a reason lifts them and is kept."""
    monkeypatch.chdir(tmp_path)
    frame = clean(np.random.default_rng(0), 400, "binary")
    frame.assign(leak=frame["y"]).to_csv("t.csv", index=False)
    first = surefit.check("t.csv", target="y", quiet=True)
    assert {f.key for f in first.serious} == {"LEAK01:leak"}
    assert first.to_dict()["findings"][0]["code"] == "LEAK01"
    assert "1 serious finding" in str(first)
    project = workspace.project(data="t.csv", target="y", config=None, overrides=())
    store = workspace.open_store(project)

    def asked(**gate):
        again = workspace.project(data=None, target=None, config=None, overrides=gate)
        work = workspace.load(again, frame=None, reporter=Reporter(quiet=True))
        return found_by.for_gate(store, work, lambda: pytest.fail("it was checked already"))

    def answer(**gate):
        return found_by.check(asked(**gate), GateConfig())

    blocked = answer()
    assert blocked.verdict == "REJECTED"
    assert "LEAK01:leak" in blocked.reason
    why = "it is the same thing on purpose"
    assert answer(**{"check.waive": {"LEAK01:leak": why}}).verdict == "PROMOTED"
    reasons = [f'check.waive={{ "LEAK01:leak" = "{why}" }}']
    second = surefit.check("t.csv", target="y", set=reasons, quiet=True)
    assert not second.serious
    assert [f.waived for f in second.findings if f.code == "LEAK01"] == [why]
    assert asked().waived == {"LEAK01:leak": why}
    assert asked(**{"gate.check": "skip"}).listed is None
    assert asked(**{"gate.check": "require", "data.drop": ["leak"]}).listed is None
    assert found_by.latest(store, "0" * 64) is None
    with pytest.raises(ConfigError, match="no finding LEKA01"):
        surefit.check("t.csv", target="y", set=['check.waive={ LEKA01 = "x" }'], quiet=True)
    from surefit.edges import runs

    text = runs.read_text(store, second.run_id, "findings.json")
    assert text is not None
    assert json.loads(text)[-1]["waived"] or any(f["waived"] for f in json.loads(text))
    page = runs.read_text(store, second.run_id, "report.html")
    assert page is not None
    assert "Best single column" in page


@pytest.mark.parametrize(
    ("file", "target", "serious", "warned"),
    [
        ("titanic.csv", "survived", {"LEAK03:boat", "LEAK03:body"}, set()),
        ("bike_sharing.csv", "cnt", {"LEAK02:registered,casual"}, {"TIME01:dteday"}),
        ("parkinsons.csv", "total_UPDRS", {"GROUP01:subject#"}, {"LEAK01:motor_UPDRS"}),
        ("adult_train.csv", "income", set(), set()),
        ("letter.csv", "class", set(), set()),
        ("california_housing.csv", "MedHouseVal", set(), set()),
        ("car.csv", "class", set(), set()),
        ("mammography.csv", "class", set(), set()),
        ("telco_churn.csv", "Churn", set(), set()),
        ("employee_salaries.csv", "current_annual_salary", set(), {"TIME01:date_first_hired"}),
        ("house_prices.csv", "SalePrice", set(), set()),
        ("nycflights13.parquet", "arr_delay", set(), {"LEAK01:dep_delay"}),
    ],
)
def test_real_tables(
    file: str, target: str, serious: set[str], warned: set[str], data_folder: Path
) -> None:
    """The known leaks of published tables, and no false alarm on any, serious or not."""
    findings = found(sources.load(file, data_folder), target)
    assert keys(findings) == serious
    assert keys(findings, "warning") == warned
    if file == "bike_sharing.csv":
        assert "ID01:instant" in keys(findings, "note")
    assert {f.code for f in findings} <= set(CODES)
