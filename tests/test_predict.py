"""Scoring files in batches: columns and types, whole or nothing, resumed, and who answered."""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import surefit
from promoting import project, rows
from surefit.core.conform import conform
from surefit.edges import batches, isolated, registry, sources
from surefit.errors import DataError, InputError, IntegrityError, ServiceError
from surefit.results import InputColumn
from surefit.sections import DataConfig
from surefit.verbs.predict import predict
from surefit.verbs.promote import promote


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pristine):
    found = project(tmp_path_factory.mktemp("scoring"), pristine, n=300)
    promote(found.runs["good"], config=found.config, quiet=True)
    return found


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """A hundred rows a batch, so that small files have many."""
    monkeypatch.setattr(batches, "rows_a_batch", lambda n_columns: 100)


def plain(trained, frame, tmp_path):
    """The same rows answered by plain MLflow in a process without surefit."""
    store = trained.store()
    folder = tmp_path / "plain"
    folder.mkdir()
    local = registry.download(store, registry.by_alias(store, "production"), folder)
    return isolated.predict(local, frame)


def test_csv_and_parquet_give_plain_mlflows_numbers(trained, tmp_path) -> None:
    """Both forms of input and output hold the numbers that plain pyfunc gives, rows named by id."""
    frame = rows(450, seed=3).drop(columns="bought")
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet")
    expected = plain(trained, frame.drop(columns="key"), tmp_path)
    for given_, out in (("in.csv", "out.parquet"), ("in.parquet", "out.csv")):
        told = predict(str(tmp_path / given_), out=tmp_path / out, config=trained.config,
                       quiet=True)  # fmt: skip
        read = pd.read_parquet if out.endswith("parquet") else pd.read_csv
        answered = read(tmp_path / out)
        assert told.n_rows == 450
        assert list(answered["row_id"]) == list(frame["key"])
        np.testing.assert_allclose(
            answered["probability_yes"], expected["probability_yes"], atol=1e-12
        )
        assert list(answered["prediction"]) == list(expected["prediction"])


def test_the_output_says_who_answered(trained, tmp_path) -> None:
    """Version, run, manifest and threshold stand in the Parquet file and beside the CSV."""
    rows(120).to_csv(tmp_path / "in.csv", index=False)
    for out in ("out.parquet", "out.csv"):
        predict(str(tmp_path / "in.csv"), out=tmp_path / out, config=trained.config, quiet=True)
    metadata = pq.read_schema(tmp_path / "out.parquet").metadata
    beside = json.loads((tmp_path / "out.csv.meta.json").read_text("utf-8"))
    assert metadata[b"surefit.run"].decode() == beside["surefit.run"] == trained.runs["good"]
    assert beside["surefit.threshold"] == "0.5"
    assert beside["surefit.model"] == "models:/shop/1"
    assert not list(tmp_path.glob(".out*"))


def test_differences_are_told_and_safe_casts_made(trained, tmp_path) -> None:
    """A missing column is named with the one it may be; gaps in whole numbers, numbers as text and
    whole numbers for real ones are read, each told."""
    frame = rows(150)
    wrong = frame.rename(columns={"region": "regions"})
    wrong.to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match='region is missing; is it "regions"'):
        predict(str(tmp_path / "wrong.parquet"), out=tmp_path / "o.csv", config=trained.config,
                quiet=True)  # fmt: skip
    odd = frame.assign(x1=frame["x1"].astype(str), x2=1, count=frame["count"].astype("float64"))
    odd.loc[3, "count"] = np.nan
    odd.to_parquet(tmp_path / "odd.parquet")
    told = predict(str(tmp_path / "odd.parquet"), out=tmp_path / "o.csv", config=trained.config,
                   quiet=True)  # fmt: skip
    assert told.ignored == ("bought",)
    text = " ".join(told.casts)
    assert "x2: int64 read as float64" in text
    assert "x1: " in text
    odd.assign(x1="much").to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=r"x1 is .*'much'"):
        predict(str(tmp_path / "odd.parquet"), out=tmp_path / "o.csv", config=trained.config,
                quiet=True)  # fmt: skip


def score(config, given_, out) -> None:
    """Score in this process, for a test to kill."""
    batches.rows_a_batch = lambda n_columns: 100
    predict(given_, out=out, config=config, quiet=True)


def test_a_killed_try_is_gone_on_from(trained, tmp_path) -> None:
    """Killed after some parts there is no output; the same command goes on and ends as undisturbed;
    another input begins again."""
    frame = rows(15_000)
    given_, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    frame.to_parquet(given_)
    process = multiprocessing.get_context("spawn").Process(
        target=score, args=(trained.config, str(given_), out)
    )
    process.start()
    folder = tmp_path / ".out.parquet.parts"
    while len(list(folder.glob("part-*.parquet"))) < 3:
        process.join(0.02)
        assert process.exitcode is None
    process.kill()
    process.join()
    assert not out.exists()
    told = predict(str(given_), out=out, config=trained.config, quiet=True)
    assert told.resumed >= 300
    whole = out.read_bytes()
    told = predict(str(given_), out=out, config=trained.config, quiet=True)
    assert told.resumed == 0
    assert out.read_bytes() == whole


def test_a_disk_that_is_full_is_told_and_nothing_is_lost(tmp_path) -> None:
    """No room for a part: one message says what and that the work goes on from the parts there."""
    out, limits = tmp_path / "out.parquet", resource.getrlimit(resource.RLIMIT_FSIZE)
    parts = batches.Parts(out, {"work": 1})

    def work() -> None:
        with parts.opened():
            parts.add(0, rows(10))
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as little room
            try:
                parts.add(1, rows(5000))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.raises(ServiceError, match=r"(?s)cannot be written: .*goes on from the 1 parts"):
        work()
    assert not out.exists()
    with parts.opened() as done:
        assert done == 1


def test_ids_of_a_csv_are_kept_as_they_stand(trained, tmp_path) -> None:
    """Zeros in front, numbers in one batch and words in the next: the file's ids, unchanged."""
    frame = rows(250, seed=5).assign(key=[f"{k:05d}" if k < 200 else f"r{k}" for k in range(250)])
    frame.to_csv(tmp_path / "in.csv.gz", index=False)
    predict(str(tmp_path / "in.csv.gz"), out=tmp_path / "out.parquet", config=trained.config,
            quiet=True)  # fmt: skip
    assert list(pd.read_parquet(tmp_path / "out.parquet")["row_id"]) == list(frame["key"])


def test_a_changed_model_does_not_score(tmp_path, pristine) -> None:
    """A model whose file was changed is refused, and no output appears."""
    trained = project(tmp_path, pristine, n=300)
    version = trained.version_of("good")
    store = trained.store()
    model_id = store.client.get_run(version.run_id).data.tags["surefit.model"]
    place = store.client.get_logged_model(model_id).artifact_location.removeprefix("file://")
    code = Path(place) / "predict.py"
    code.write_text(code.read_text("utf-8") + "# changed\n", "utf-8")
    out = tmp_path / "out.csv"
    with pytest.raises(IntegrityError, match=r"predict\.py was changed"):
        predict(str(tmp_path / "shop.csv"), out=out, model="1", config=trained.config, quiet=True)
    assert not out.exists()


def test_many_missing_columns_are_told_in_one_line() -> None:
    """One that may be there by another name has its own line; the others are one line."""
    wanted = [InputColumn(name=n, type="double") for n in ("size", *(f"x{k}" for k in range(30)))]
    with pytest.raises(DataError) as refused:
        conform(pd.DataFrame({"sizes": [1.0]}), wanted)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert 'size is missing; is it "sizes"?' in lines[1]
    assert lines[2].endswith("30 columns are missing: " + ", ".join(f"x{k}" for k in range(20))
                             + " and 10 more")  # fmt: skip


@given(st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), min_size=1),
       st.sampled_from(["long", "double", "string"]))  # fmt: skip
def test_casting_changes_no_value_and_twice_is_once(values, kind) -> None:
    """What conforms holds the same values, and conforming again changes nothing."""
    wanted = [InputColumn(name="a", type=kind)]
    frame = pd.DataFrame({"a": pd.Series(values, dtype="Int64")})
    once, _ = conform(frame, wanted)
    twice, notes = conform(once, wanted)
    pd.testing.assert_frame_equal(once, twice)
    assert not [n for n in notes if "read as" in n and kind != "long"]
    kept = [None if pd.isna(v) else int(v) for v in once["a"]]
    assert kept == values


def test_what_the_project_says_of_its_text_holds_for_new_rows_too(tmp_path) -> None:
    """An encoding that cannot be seen is the configured one, but for rows that are UTF-8; so are a
    separator and a decimal sign."""
    types = {"town": "string", "size": "double"}
    wanted = [InputColumn(name=name, type=kind) for name, kind in types.items()]
    said = DataConfig(path="x", target="y", encoding="cp1251", separator="|", decimal=",")
    for encoding in ("cp1251", "utf-8"):
        file = tmp_path / f"{encoding}.csv"
        file.write_text("town|size\nМосква|1,5\nТверь|2,5\n", encoding)
        table = batches.look(str(file), said)
        ((frame, _),) = batches.read(table, table.names, wanted, 100)
        assert frame["town"].tolist() == ["Москва", "Тверь"]
        assert frame["size"].tolist() == [1.5, 2.5]


def test_a_csv_is_read_as_training_read_it(tmp_path) -> None:
    """Delimiter, decimal comma, lines above the header, and what counts as missing where."""
    lines = ["sep=;", "size;kind;n", "1,5;NA;?", "?;None;3", "2,5;;4"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    types = {"size": "double", "kind": "string", "n": "long"}
    wanted = [InputColumn(name=name, type=kind) for name, kind in types.items()]
    table = batches.look(str(tmp_path / "t.csv"), DataConfig(path="x", target="y"))
    assert table.names == ("size", "kind", "n")

    def read(missing):
        ((frame, share),) = batches.read(table, table.names, wanted, 100, missing=missing)
        assert share == 1.0
        return frame

    frame = read(None)
    assert frame["size"].fillna(0).tolist() == [1.5, 0.0, 2.5]
    assert frame["kind"].fillna("-").tolist() == ["-", "None", "-"]
    assert frame["n"].isna().tolist() == [True, False, False]
    assert read([""])["kind"].fillna("-").tolist() == ["NA", "None", "-"]
    trained = sources.read(DataConfig(path="t.csv", target="n"), tmp_path).frame
    assert trained["kind"].fillna("-").tolist() == frame["kind"].fillna("-").tolist()
    assert trained["size"].fillna(0).tolist() == frame["size"].fillna(0).tolist()


def test_rows_are_named_as_in_training(tmp_path, monkeypatch):
    """A column that named the rows by itself names them in predictions too, so that `evaluate`
    joins each with its own target."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=120), "id": rng.permutation(120) + 1000})
    frame["y"] = frame["x"] > 0
    frame.to_csv("t.csv", index=False)
    settings = {"model.family": "linear", "split.folds": 2}
    run = surefit.train("t.csv", target="y", set=settings, quiet=True)
    told = surefit.predict("t.csv", out="out.csv", model=run.run_id, quiet=True)
    assert told.id == "id"
    found = surefit.evaluate("out.csv", quiet=True)
    assert found.scores[0].value > 0.95


def made(seed, n=150):
    """Rows that no column names."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n) * 1e40,
                          "zip": rng.choice(["01234", "00321"], n)})  # fmt: skip
    return frame.assign(y=np.where(frame["x"] > 0, "yes", "no"))


def test_numbered_rows_are_joined_with_their_own_table_alone(tmp_path, monkeypatch):
    """The file says by its columns' digests what rows it numbers: another table of as many rows is
    refused, the same rows with their targets in another format are not, some of them missing."""
    monkeypatch.chdir(tmp_path)
    made(0).to_csv("t.csv", index=False)
    new = made(1)
    new.drop(columns="y").to_csv("new.csv", index=False)
    settings = {"model.family": "linear", "split.folds": 2}
    run = surefit.train("t.csv", target="y", set=settings, quiet=True)
    assert surefit.predict("new.csv", out="out.csv", model=run.run_id, quiet=True).id is None
    with pytest.raises(InputError, match=r"150 rows of another table .* which has other ones"):
        surefit.evaluate("out.csv", quiet=True)
    new.assign(y=new["y"].where(new.index % 5 > 0)).to_parquet("known.parquet")
    there = ["data.path=known.parquet", "split.test=0"]
    found = surefit.evaluate("out.csv", set=there, quiet=True)
    assert (found.n_rows, found.left_out) == (120, ())
    assert found.score("roc_auc").value > 0.95
    beside = Path("out.csv.meta.json")
    told = json.loads(beside.read_text("utf-8"))
    assert set(json.loads(told.pop("surefit.columns"))) == {"x", "z", "zip"}
    beside.write_text(json.dumps(told), "utf-8")
    (said,) = surefit.evaluate("out.csv", set=there, quiet=True).left_out
    assert said.startswith("a check that these are the rows of known.parquet: they are numbered")


def test_ids_with_zeros_in_front_are_joined_with_the_datas_numbers(tmp_path, monkeypatch):
    """A CSV's 0001 stays so in the predictions, and is the 1 that it is among the data."""
    monkeypatch.chdir(tmp_path)
    named = made(2).assign(id=[f"{k:04d}" for k in np.random.default_rng(0).permutation(150)])
    named.to_csv("t.csv", index=False)
    settings = {"model.family": "linear", "split.folds": 2}
    run = surefit.train("t.csv", target="y", set=settings, quiet=True)
    surefit.predict("t.csv", out="out.parquet", model=run.run_id, quiet=True)
    assert sorted(pd.read_parquet("out.parquet")["row_id"])[1] == "0001"
    found = surefit.evaluate("out.parquet", set=["split.test=0"], quiet=True)
    assert found.n_rows == 150
    assert found.score("roc_auc").value > 0.95
