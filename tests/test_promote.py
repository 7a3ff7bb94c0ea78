"""Promotion from end to end on a real store: the gate, the record, the way back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promoting import project, rows
from surefit.edges import environment, registry, runs
from surefit.errors import ConfigError, InputError
from surefit.verbs import looks, workspace
from surefit.verbs.history import history
from surefit.verbs.promote import promote
from surefit.verbs.reporter import Reporter
from surefit.verbs.rollback import rollback
from surefit.verbs.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pristine):
    return project(tmp_path_factory.mktemp("shop"), pristine)


def go(trained, run, to, **more):
    return promote(trained.runs[run], to=to, config=trained.config, quiet=True, **more)


def record_of(trained, decision):
    text = runs.read_text(trained.store(), decision.run_id, "decision.json")
    return json.loads(text)


def test_a_promotion_leaves_its_evidence(trained) -> None:
    """A first promotion rests on the baseline, moves the alias, and names its record on the
    version; the same run again is no second version."""
    decision = go(trained, "good", "evidence")
    assert decision.verdict == "PROMOTED"
    assert trained.named("evidence") == decision.version
    version = trained.version_of("good")
    assert version.tags["surefit.decision"] == decision.run_id
    record = record_of(trained, decision)
    assert record["sequence"] == 1
    assert record["evidence"]["challenger"]["manifest"] == version.tags["surefit.manifest"]
    assert record["evidence"]["gate"]["reuse"] == "ignore"
    assert len(record["evidence"]["checks"]) == len(decision.checks)
    checked = trained.store().client.get_run(record["evidence"]["checked"])
    assert checked.data.tags["surefit.kind"] == "check"
    again = go(trained, "good", "evidence")
    assert (again.verdict, again.moved, again.version) == ("PROMOTED", False, decision.version)
    own = [v for v in registry.versions(trained.store()) if v.run_id == trained.runs["good"]]
    assert len(own) == 1


def test_back_twice_and_forward(trained) -> None:
    """Promoted one after the other, back, back to nothing older, and forward by number."""
    first, second = go(trained, "good", "way"), go(trained, "better", "way")
    assert second.moved
    back = rollback(to="way", config=trained.config, quiet=True, reason="it is slow")
    assert (back.version, trained.named("way")) == (first.version, first.version)
    with pytest.raises(InputError, match="no version before this one"):
        rollback(to="way", config=trained.config, quiet=True)
    rollback(to="way", version=second.version, config=trained.config, quiet=True)
    told = history(to="way", config=trained.config, quiet=True)
    assert told.version == second.version
    assert [e.action for e in told.events] == ["promote", "promote", "rollback", "rollback"]
    assert told.events[2].why == "it is slow"
    assert told.faults == ()
    again = rollback(to="way", config=trained.config, quiet=True)
    assert again.version == first.version


def test_the_gate_says_no_and_force_is_recorded(trained) -> None:
    """A poor model is rejected with exit, moved by force only, and the record says so and why."""
    go(trained, "good", "force")
    refused = go(trained, "poor", "force")
    assert refused.verdict == "REJECTED"
    assert not refused.moved
    with pytest.raises(ConfigError, match="with a reason"):
        go(trained, "poor", "force", force=True)
    forced = go(trained, "poor", "force", force=True, reason="an outage")
    assert (forced.verdict, forced.moved, forced.forced) == ("REJECTED", True, True)
    record = record_of(trained, forced)
    assert (record["forced"], record["why"]) == (True, "an outage")
    assert trained.named("force") == forced.version
    assert history(to="force", config=trained.config, quiet=True).faults == ()


def test_a_dry_run_moves_nothing(trained) -> None:
    """A dry run decides and is on record, and the alias stays unset."""
    decision = go(trained, "good", "dry", dry_run=True)
    assert (decision.verdict, decision.moved) == ("PROMOTED", False)
    assert trained.named("dry") is None
    assert record_of(trained, decision)["moves"] is False


def test_a_move_made_elsewhere_is_adopted_and_stays(trained) -> None:
    """An alias moved by plain MLflow is written down as made outside, and never undone."""
    go(trained, "good", "outside")
    other = trained.version_of("better")
    store = trained.store()
    store.client.set_registered_model_alias("shop", "outside", other.version)
    told = history(to="outside", config=trained.config, quiet=True)
    assert (told.version, told.events[-1].action, told.events[-1].by) == (
        other.version, "outside", "outside",
    )  # fmt: skip
    assert told.faults == ()
    store.client.delete_registered_model_alias("shop", "outside")
    told = history(to="outside", config=trained.config, quiet=True)
    assert told.events[-1].version is None
    assert trained.named("outside") is None


def test_a_model_trained_straight_to_an_alias_is_on_record(folder, monkeypatch) -> None:
    """train --to writes who moved the alias, when and why, as a move without a gate; one that is
    cut short is undone, and rollback leads back."""
    plain = {"split.folds": 3, "model.family": "linear"}
    folder.train("sklearn:iris", target="target", set=plain, to="staging")
    folder.train(set=plain, to="staging")

    def dies(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "move", dies)
        with pytest.raises(KeyboardInterrupt):
            folder.train(set=plain, to="staging")
    told = folder.history(to="staging")
    assert told.faults == ()
    assert [(e.action, e.verdict, e.version, e.previous, e.outcome) for e in told.events] == [
        ("train", "UNGATED", "1", None, "done"), ("train", "UNGATED", "2", "1", "done"),
        ("train", "UNGATED", "3", "2", "undone"),
    ]  # fmt: skip
    assert {(e.by, e.who, e.why) for e in told.events} == {
        ("surefit", environment.user(), "trained straight to staging")
    }
    assert "UNGATED: train → version 2 (was 1)" in str(told)
    version = folder.client.get_model_version_by_alias("iris", "staging")
    assert (str(version.version), version.tags["surefit.gate"]) == ("2", "ungated")
    assert version.tags["surefit.decision"] == told.events[1].run_id
    of = folder.client.get_run(told.events[1].run_id).data.tags["surefit.of"]
    assert of == version.run_id
    assert folder.rollback(to="staging").version == "1"


def test_the_same_question_again_spends_nothing(trained) -> None:
    """A dry run and then the promotion itself are one look; another challenger's is the next."""
    settings = {"gate.reuse": "spend", "gate.floors": {"roc_auc": 0.999}}
    first = go(trained, "good", "again", set=settings, dry_run=True)
    second = go(trained, "good", "again", set=settings)
    assert second.look == first.look
    assert [c.reason for c in second.checks] == [c.reason for c in first.checks]
    assert go(trained, "better", "again", set=settings).look == first.look + 1
    assert go(trained, "good", "again", set=settings | {"gate.margin": 0.3}).look == first.look + 2


def test_floors_may_name_the_users_own_metrics(trained) -> None:
    """A floor on a function of the user's and one on a cost are judged; an unknown name, or a
    slice that is no column, is refused before a look is spent."""
    (trained.config.parent / "mine.py").write_text(
        "def profit(y_true, y_pred):\n    return ((y_true == 'yes') - 0.3) * (y_pred > 0.3)\n"
    )
    own = {"metric.also": ["mine.py:profit"], "metric.cost": {"yes": {"no": 5}, "no": {"yes": 1}},
           "gate.reuse": "spend"}  # fmt: skip
    judged = go(trained, "good", "own", set=own | {"gate.floors": {"profit": 50.0, "cost": 0.01}})
    verdicts = {c.name: c.verdict for c in judged.checks}
    assert verdicts["floor profit"] == "REJECTED"
    assert verdicts["ceiling cost"] == "REJECTED"
    with pytest.raises(ConfigError, match=r'no metric "profits".*profit'):
        go(trained, "good", "own", set=own | {"gate.floors": {"profits": 0.1}})
    with pytest.raises(ConfigError, match=r'gate.slices: "regions"'):
        go(trained, "good", "own", set=own | {"gate.slices": ["regions"]})
    after = go(trained, "better", "own", set=own | {"gate.floors": {"profit": 50.0}})
    assert after.look == judged.look + 1


def test_what_would_decide_is_in_the_answer(trained) -> None:
    """An undecided floor names the rows that would decide, in words and as a number; the answer
    as JSON holds the tests and digests of the record."""
    auc = runs.find(trained.store(), trained.runs["better"]).metrics["valid_roc_auc"]
    decision = go(trained, "better", "rows", set={"gate.floors": {"roc_auc": auc}})
    (floor,) = [c for c in decision.checks if c.name == "floor roc_auc"]
    assert floor.verdict == "INCONCLUSIVE"
    assert floor.rows_to_decide > decision.n_rows
    assert f"about {floor.rows_to_decide:,} test rows would decide" in floor.reason
    told = json.loads(json.dumps(decision.to_dict()))
    assert told["evidence"] == record_of(trained, decision)["evidence"]
    assert told["evidence"]["tests"][0]["alpha_spent"] == pytest.approx(0.0304, abs=1e-4)


def test_a_half_uploaded_model_is_refused(trained) -> None:
    """Without its manifest, or with a file missing, a version is not promoted, by force neither."""
    store = trained.store()
    model_id = runs.find(store, trained.runs["good"]).tags["surefit.model"]
    place = Path(store.client.get_logged_model(model_id).artifact_location.removeprefix("file://"))
    for lost, said in (("manifest.json", "upload was cut short"), ("meta.json", "is missing")):
        file = next(place.rglob(lost))
        content = file.read_bytes()
        file.unlink()
        try:
            refused = go(trained, "good", "half", force=True, reason="x")
        finally:
            file.write_bytes(content)
        assert (refused.verdict, refused.moved) == ("REJECTED", False)
        assert any(said in c.reason for c in refused.checks)
    assert trained.named("half") is None


def test_a_leak_that_nobody_looked_for_is_found(tmp_path, pristine) -> None:
    """Promote checks data that were never checked, once: a serious finding rejects until it is
    waived; a check can be required, or left out."""
    trained = project(tmp_path, pristine, n=300, leak=True, names=("good",))
    required = go(trained, "good", "production", set={"gate.check": "require"})
    assert (required.verdict, required.next.split(",")[0]) == ("INCONCLUSIVE", "surefit check")
    refused = go(trained, "good", "production")
    assert (refused.verdict, refused.moved) == ("REJECTED", False)
    assert any("LEAK01:told" in c.reason for c in refused.checks)
    assert '[check] waive = { "LEAK01:told"' in refused.next
    out_of_reach = {"gate.floors": {"log_loss": 0.0}}  # so that no process is started to try it
    why = {"check.waive": {"LEAK01:told": "a test"}}
    waived = go(trained, "good", "production", set=out_of_reach | why)
    assert (required.look, refused.look, refused.n_rows, waived.look) == (0, 0, 0, 1)
    assert {c.name: c.verdict for c in waived.checks}["findings in the data"] == "PROMOTED"
    assert waived.evidence["waived"] == {"LEAK01:told": "a test"}
    assert waived.evidence["checked"] == refused.evidence["checked"]
    skipped = go(trained, "good", "production", set=out_of_reach | {"gate.check": "skip"})
    assert any("nobody asked" in c.reason for c in skipped.checks)
    assert skipped.evidence["checked"] is None


def test_slices_latency_and_size_are_asked(trained) -> None:
    """The gate's further keys each give an answer in the decision."""
    go(trained, "good", "more")
    wanted = {"gate.slices": ["region"], "gate.calibration": 0.3, "gate.latency_ms": 5000,
              "gate.size_mb": 100, "gate.slice_margin": 0.1}  # fmt: skip
    decision = go(trained, "better", "more", set=wanted)
    names = {c.name for c in decision.checks}
    assert {"slices", "calibration", "latency", "size"} <= names
    assert decision.verdict == "PROMOTED"
    slow = go(trained, "good", "more", set={"gate.latency_ms": 1e-6})
    assert slow.verdict == "REJECTED"


def test_a_champion_without_predictions_answers_in_a_process(trained) -> None:
    """Where the champion's saved predictions are gone, it is asked again, with equal numbers."""
    go(trained, "good", "gone")
    kept = go(trained, "better", "gone", dry_run=True)
    store = trained.store()
    place = store.client.get_run(trained.runs["good"]).info.artifact_uri.removeprefix("file://")
    saved = Path(place) / "predictions" / "test.parquet"
    content = saved.read_bytes()
    saved.unlink()
    try:
        asked = go(trained, "better", "gone", dry_run=True)
    finally:
        saved.write_bytes(content)
    assert record_of(trained, asked)["evidence"]["rows"].endswith("in a fresh process")
    assert [c.reason for c in asked.checks if "champion" in c.name] == [
        c.reason for c in kept.checks if "champion" in c.name
    ]


def test_a_byte_changed_is_refused(tmp_path, pristine) -> None:
    """One byte changed in a model's file: the version is not promoted, by force neither, and a
    rollback to it is refused."""
    trained = project(tmp_path, pristine, n=300)
    go(trained, "good", "production")
    go(trained, "better", "production")
    store = trained.store()
    for name in ("good", "poor"):
        model_id = runs.find(store, trained.runs[name]).tags["surefit.model"]
        place = store.client.get_logged_model(model_id).artifact_location.removeprefix("file://")
        file = next(Path(place).rglob("meta.json"))
        file.write_text(file.read_text().replace('"threshold": 0.5', '"threshold": 0.4'))
    for force in (False, True):
        refused = go(trained, "poor", "production", force=force, reason="x",
                     set={"gate.margin": 0.9})  # fmt: skip
        assert not refused.moved
    assert any("meta.json was changed" in c.reason for c in refused.checks)
    back = rollback(config=trained.config, quiet=True)
    assert not back.moved
    assert trained.named("production") == trained.version_of("better").version


def test_tampered_records_are_found(tmp_path, pristine) -> None:
    """A record edited in the store is found by history; a deleted run too."""
    trained = project(tmp_path, pristine, n=300)
    first = go(trained, "good", "production")
    go(trained, "better", "production")
    store = trained.store()
    place = store.client.get_run(first.run_id).info.artifact_uri.removeprefix("file://")
    file = Path(place) / "decision.json"
    content = file.read_text("utf-8")
    file.write_text(content.replace('"REJECTED"', '"PROMOTED"').replace("root", "toor") + " ")
    told = history(config=trained.config, quiet=True)
    assert any("was changed after it was written" in f for f in told.faults)
    file.write_text(content, "utf-8")
    assert history(config=trained.config, quiet=True).faults == ()
    store.client.delete_run(first.run_id)
    assert history(config=trained.config, quiet=True).faults != ()


def test_stages_move_with_the_alias(tmp_path, pristine) -> None:
    """With gate.stages the old stage URI names the promoted version, and moves back with it."""
    trained = project(tmp_path, pristine, n=300)
    first = go(trained, "good", "production", set={"gate.stages": True})
    second = go(trained, "better", "production", set={"gate.stages": True})
    store = trained.store()
    assert registry.resolve(store, "models:/shop/Production").version == second.version
    store.client.set_registered_model_alias("shop", "production", second.version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        store.client.transition_model_version_stage("shop", second.version, "Archived")
    assert not go(trained, "better", "production", set={"gate.stages": True}).moved
    assert registry.resolve(store, "models:/shop/Production").version == second.version
    rollback(config=trained.config, quiet=True, set={"gate.stages": True})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        (old,) = store.client.get_latest_versions("shop", ["Production"])
    assert str(old.version) == first.version


def test_grown_data_are_judged_on_untouched_rows(tmp_path, pristine) -> None:
    """Where data have grown and the split moved, only rows that the champion never saw decide; a
    row whose content changed counts as new."""
    trained = project(tmp_path, pristine, n=400)
    go(trained, "good", "production")
    grown = rows(700)
    grown.loc[:399, grown.columns != "key"] = rows(400).loc[:, grown.columns != "key"]
    grown.to_csv(tmp_path / "shop.csv", index=False)
    settings = {"split.seed": 1, "split.test": 0.5}
    newer = train(config=trained.config, set=settings, name="newer", quiet=True)
    decision = promote(newer.run_id, config=trained.config, set=settings, quiet=True)
    told = record_of(trained, decision)["evidence"]["rows"]
    assert "untouched by both" in told
    assert "the champion is asked now" in told
    store = trained.store()
    split = runs.read_table(store, trained.runs["good"], "split.parquet")
    seen = set(split["row_id"][split["block"] >= 0])
    mine = runs.read_table(store, newer.run_id, "predictions/test.parquet")["row_id"]
    assert decision.n_rows == sum(r not in seen for r in mine)
    assert 0 < decision.n_rows < len(mine)


def test_usual_rows_are_judged_too_where_data_have_grown(tmp_path, pristine) -> None:
    """Rows equal to what the champion saw are no copies where a third of the table is; and fresh
    test rows are fresh though they hold such rows."""
    trained = project(tmp_path, pristine, n=20)
    rng = np.random.default_rng(0)
    frame = rows(600)
    frame.loc[rng.random(600) < 0.3, frame.columns != "key"] = frame.iloc[0].drop("key").to_numpy()
    frame.head(500).to_csv(tmp_path / "shop.csv", index=False)
    older = train(config=trained.config, name="older", quiet=True)
    promote(older.run_id, config=trained.config, quiet=True, force=True, reason="a test")
    frame.to_csv(tmp_path / "shop.csv", index=False)
    newer = train(config=trained.config, name="newer", quiet=True)
    decision = promote(newer.run_id, config=trained.config, quiet=True)
    blind = runs.read_table(trained.store(), newer.run_id, "predictions/test.parquet")
    assert decision.n_rows == len(blind)
    project_now = workspace.project(data=None, target=None, config=trained.config, overrides={})
    work = workspace.load(project_now, frame=None, reporter=Reporter(quiet=True))
    fresh = work.split.test_rows[work.split.test_rows >= 500]
    assert work.data.usual[fresh].any()
    assert looks.next_look(trained.store(), looks.keys(work, fresh)) <= 2


def test_few_groups_spend_no_look(tmp_path, monkeypatch, capsys) -> None:
    """Test rows of three groups decide nothing, which is known before their targets are read."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=400), "b": rng.normal(size=400)})
    frame["who"] = np.arange(400) % 8
    frame["y"] = frame["a"] + rng.normal(size=400) > 0
    frame.to_csv("t.csv", index=False)
    grouped = {"data.group": "who", "model.family": "linear"}
    found = train("t.csv", target="y", set=grouped)
    assert "fewer than 10 decide nothing; split.test = 0 trains on all" in capsys.readouterr().err
    decision = promote(found.run_id, quiet=True)
    assert (decision.verdict, decision.look, decision.n_rows) == ("INCONCLUSIVE", 0, 0)
    assert "groups: fewer than 10 decide nothing" in str(decision)
    assert "of more groups" in decision.next


def test_a_model_from_outside_is_no_champion_to_measure(trained) -> None:
    """Against a version of unknown training rows the gate does not decide, and says why."""
    store = trained.store()
    version = trained.version_of("poor")
    model_id = runs.find(store, trained.runs["poor"]).tags["surefit.model"]
    place = store.client.get_logged_model(model_id).artifact_location
    made = store.client.create_model_version("shop", place)
    assert made.version != version.version
    store.client.set_registered_model_alias("shop", "foreign", made.version)
    decision = go(trained, "good", "foreign")
    assert decision.verdict == "INCONCLUSIVE"
    assert any("not trained by surefit" in c.reason for c in decision.checks)


def test_a_version_registered_by_hand_is_the_runs_own(tmp_path, pristine) -> None:
    """A run's model that was registered and named in MLflow itself is known for what it is: nothing
    is decided again and no look is taken, and its files are verified as any version's are."""
    trained = project(tmp_path, pristine, names=("good",))
    store, run_id = trained.store(), trained.runs["good"]
    model_id = runs.find(store, run_id).tags["surefit.model"]
    place = store.client.get_logged_model(model_id).artifact_location
    store.client.create_registered_model("shop")
    made = store.client.create_model_version("shop", place, run_id=run_id, model_id=model_id)
    store.client.set_registered_model_alias("shop", "hand", made.version)
    decision = go(trained, "good", "hand")
    assert (decision.version, decision.look, decision.moved) == (str(made.version), 0, False)
    version = registry.by_alias(store, "hand")
    assert registry.manifest(store, version) == runs.find(store, run_id).tags["surefit.manifest"]


@pytest.mark.parametrize("alias", ["latest", "Latest", "v3", "V12", "a" * 256, "a b", "", "a\n"])
def test_an_alias_that_mlflow_refuses_or_reads_otherwise_is_refused_first(alias: str) -> None:
    """Before any look is taken; names beside these work."""
    with pytest.raises(ConfigError, match="no alias"):
        workspace.check_alias(alias)
    for fine in ("production", "a" * 255, "v3a", "latest-2", "b_1"):
        workspace.check_alias(fine)
