"""Tables from every place that the documentation names."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import http.server
import importlib.util
import lzma
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from surefit.edges import frames, sources
from surefit.errors import DataError, InputError, ServiceError, UserCodeError
from surefit.sections import DataConfig

ROWS = pd.DataFrame(
    {"city": ["Ålborg", "Köln", None, "Łódź"], "size": [1.5, 2.25, 3.0, None], "n": [1, 2, 3, 4]}
)


def loaded(path: str, root: Path, **keys: Any) -> sources.Loaded:
    return sources.read(DataConfig(path=path, target="n", **keys), root)


def same(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(frame, ROWS, check_dtype=False)


def text(separator: str = ",", decimal: str = ".") -> str:
    return ROWS.to_csv(index=False, sep=separator, decimal=decimal)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_encoding_are_found(tmp_path: Path, separator: str, encoding: str) -> None:
    """Any usual delimiter, with and without a byte-order mark, gives the same table."""
    (tmp_path / "t.csv").write_bytes(text(separator).encode(encoding))
    same(loaded("t.csv", tmp_path).frame)


def test_a_file_that_is_not_utf8_is_read_as_windows_and_told(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are read as cp1252, with the line that overrides it."""
    (tmp_path / "t.csv").write_bytes("name,n\nCafé,1\nJosé,2\n".encode("cp1252"))
    found = loaded("t.csv", tmp_path)
    assert list(found.frame["name"]) == ["Café", "José"]
    assert [n.override for n in found.notes] == ['data.encoding = "latin-1"']


def test_decimal_comma_is_found_and_can_be_overridden(tmp_path: Path) -> None:
    """1,5 beside semicolons is a number; `data.decimal` says otherwise."""
    (tmp_path / "t.csv").write_text(text(";", ","), "utf-8")
    found = loaded("t.csv", tmp_path)
    same(found.frame)
    assert 'data.decimal = "."' in [n.override for n in found.notes]
    assert loaded("t.csv", tmp_path, decimal=".").frame["size"].iloc[0] == "1,5"


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_packed_text_is_unpacked(tmp_path: Path, ending: str, pack: Any) -> None:
    """gz, bz2 and xz are read, by the file's first bytes."""
    (tmp_path / f"t.csv.{ending}").write_bytes(pack.compress(text().encode()))
    same(loaded(f"t.csv.{ending}", tmp_path).frame)


def test_binary_forms(tmp_path: Path) -> None:
    """Parquet, Feather, Arrow streams and JSON lines give the same table."""
    import pyarrow as pa

    ROWS.to_parquet(tmp_path / "t.parquet")
    ROWS.to_feather(tmp_path / "t.feather")
    table = pa.Table.from_pandas(ROWS)
    with (
        pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    ROWS.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for name in ("t.parquet", "t.feather", "t.arrow", "t.jsonl"):
        same(loaded(name, tmp_path).frame)


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    """A text of digits stays a text, and a text like a date stays one until it is looked at."""
    (tmp_path / "t.jsonl").write_text('{"zip":"01234","date":"2024-01-02"}\n{"zip":"00001"}\n')
    frame = loaded("t.jsonl", tmp_path).frame
    assert list(frame["zip"]) == ["01234", "00001"]
    assert frame["date"].iloc[0] == "2024-01-02"


def test_what_stands_above_the_header_is_left_out(tmp_path: Path) -> None:
    """Excel's `sep=;` and comments are no table; a first name that starts with # is a name."""
    (tmp_path / "e.csv").write_text("sep=|\n" + text("|"), "utf-8")
    same(loaded("e.csv", tmp_path).frame)
    (tmp_path / "c.csv").write_text("# made by us\n# in 2024, twice\n" + text(), "utf-8")
    found = loaded("c.csv", tmp_path)
    same(found.frame)
    assert "comments above the header are left out: 2 lines" in [n.text for n in found.notes]
    (tmp_path / "h.csv").write_text("#n,size\n1,2.5\n2,3.5\n", "utf-8")
    assert list(loaded("h.csv", tmp_path).frame.columns) == ["#n", "size"]
    (tmp_path / "s.csv").write_text("# us\n" + text() + "x,1\n", "utf-8")
    with pytest.raises(DataError, match="line 7 has 2 fields"):
        loaded("s.csv", tmp_path)


def test_a_json_list_is_a_table_and_a_workbook_is_not(tmp_path: Path) -> None:
    """`.json` with one list of objects is read; a workbook says what to do."""
    ROWS.to_json(tmp_path / "t.json", orient="records")
    same(loaded("t.json", tmp_path).frame)
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="workbook") as caught:
        loaded("t.xlsx", tmp_path)
    assert "read_excel" in str(caught.value)


def test_folder_and_pattern_of_parts(tmp_path: Path) -> None:
    """Parts are read in the order of their names, from a folder or by a pattern."""
    (tmp_path / "parts").mkdir()
    for i in range(2):
        part = ROWS.iloc[2 * i : 2 * i + 2]
        part.to_csv(tmp_path / "parts" / f"part-{i}.csv", index=False)
    (tmp_path / "parts" / "_SUCCESS").touch()
    for path in ("parts", "parts/part-*.csv"):
        found = loaded(path, tmp_path)
        same(found.frame)
        assert "2 files" in found.notes[0].text


def test_folders_may_hold_a_column(tmp_path: Path) -> None:
    """A folder `year=2024` is a column, as Spark and Arrow write it."""
    for year in (2023, 2024):
        folder = tmp_path / "all" / f"year={year}"
        folder.mkdir(parents=True)
        ROWS.to_parquet(folder / "a.parquet")
    assert list(loaded("all", tmp_path).frame["year"].unique()) == ["2023", "2024"]


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    """A part that lacks a column is named."""
    ROWS.to_csv(tmp_path / "a.csv", index=False)
    ROWS.drop(columns="n").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match=r"b\.csv lacks n"):
        loaded("*.csv", tmp_path)


def test_missing_tokens_are_told_and_can_be_kept(tmp_path: Path) -> None:
    """NA in a text is missing unless `data.missing` says otherwise; "?" only among numbers."""
    (tmp_path / "t.csv").write_text("garage,size,n\nNA,1,1\nAttchd,?,2\n?,3,3\n")
    found = loaded("t.csv", tmp_path)
    assert found.frame["garage"].isna().tolist() == [True, False, False]
    (tmp_path / "none.csv").write_text("veneer,size,n\nNone,None,1\nBrick,2,2\n")
    veneer = loaded("none.csv", tmp_path).frame
    assert veneer["veneer"].tolist() == ["None", "Brick"]
    assert veneer["size"].isna().tolist() == [True, False]
    assert found.frame["size"].dtype == "float64"
    assert '"NA" (1 in 1 column)' in found.notes[0].text
    kept = loaded("t.csv", tmp_path, missing=[""]).frame
    assert kept["garage"].iloc[0] == "NA"
    assert kept["size"].iloc[1] == "?"


@pytest.fixture
def database(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "f.db") as connection:
        ROWS.to_sql("t", connection, index=False)
    connection.close()
    return "sqlite:///f.db"


def test_a_query_is_a_table(tmp_path: Path, database: str) -> None:
    """A SQLAlchemy address and a query give a table, and write nothing."""
    same(loaded(database, tmp_path, query="SELECT * FROM t").frame)
    with pytest.raises(InputError, match="readonly"):
        loaded(database, tmp_path, query="INSERT INTO t VALUES ('x', 1, 1) RETURNING *")


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("sqlite:///f.db", None, "needs a query"),
        ("sqlite:///f.db", "SELECT * FROM absent", "no such table"),
        ("sqlite:///none.db", "SELECT 1", "no database file"),
        ("nosuchsql+driver://h/d", "SELECT 1", "no address that SQLAlchemy reads"),
        ("sqlite:///f.db", "SELECT n, n FROM t", "columns of one name"),
    ],
)
def test_a_wrong_query_is_one_clear_line(
    tmp_path: Path, database: str, path: str, query: str | None, message: str
) -> None:
    """What the database says, without a traceback, exit code 2."""
    with pytest.raises(InputError, match=message) as caught:
        loaded(path, tmp_path, query=query)
    assert len(caught.value.what.splitlines()) == 1


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_a_database_that_is_away_is_a_failed_service(tmp_path: Path, scheme: str) -> None:
    """No answer is exit code 3, and the password is in no message."""
    if "+" in scheme:
        pytest.importorskip(scheme.partition("+")[2])
    elif not any(importlib.util.find_spec(d) for d in ("psycopg", "psycopg2")):
        pytest.skip("no driver for PostgreSQL")
    with pytest.raises(ServiceError) as caught:
        loaded(f"{scheme}://me:s3cret@127.0.0.1:1/x", tmp_path, query="SELECT 1")
    assert "s3cret" not in str(caught.value)


def test_no_driver_for_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver the message names the extra that brings one."""
    for driver in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, driver, None)
    for scheme in ("postgresql", "postgresql+psycopg2"):
        with pytest.raises(InputError, match=r"surefit\[postgres\]") as caught:
            loaded(f"{scheme}://me:s3cret@127.0.0.1:1/x", tmp_path, query="SELECT 1")
        assert "s3cret" not in str(caught.value)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server, and the address of a user with a password."""
    pgserver = pytest.importorskip("pgserver")
    folder = tmp_path_factory.mktemp("pg") / "data"
    for _ in range(12):  # it gives a busy machine ten seconds; what it has begun, it goes on with
        with contextlib.suppress(subprocess.TimeoutExpired):
            server = pgserver.get_server(str(folder))
            break
    try:
        server.psql("CREATE ROLE me LOGIN PASSWORD 's3/cr:et'; CREATE TABLE t (n int, size numeric,"
                    " day date, seen timestamptz, ok bool, city text);"
                    "INSERT INTO t SELECT n, n * 1.5, date '2024-01-01' + n, now(), n > 2,"
                    " CASE WHEN n < 5 THEN 'a%b:c' END FROM generate_series(1, 5) AS n;"
                    "GRANT SELECT ON t TO me;")  # fmt: skip
        rules = folder / "pg_hba.conf"
        rules.write_text(f"local all me scram-sha-256\n{rules.read_text()}")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri().replace("postgresql://postgres:@", "postgresql://me:${PG_WORD}@")
    finally:
        server.cleanup()


@pytest.mark.parametrize("driver", ["", "+psycopg", "+psycopg2"])
def test_postgresql_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: str, driver: str
) -> None:
    """A query to a real server, by whichever driver, its password from the environment."""
    if driver:
        pytest.importorskip(driver[1:])
    monkeypatch.setenv("PG_WORD", "s3/cr:et")
    address = postgres.replace("postgresql://", f"postgresql{driver}://")
    assert "me:${PG_WORD}@" in address
    query = "SELECT * FROM t WHERE city IS NULL OR city LIKE 'a%' AND city != ':x' ORDER BY n"
    frame = loaded(address, tmp_path, query=query).frame
    assert list(frame["n"]) == [1, 2, 3, 4, 5]
    assert frame["size"].dtype == "float64"
    assert frame["size"].sum() == 22.5
    assert frame["city"].isna().sum() == 1
    assert str(frame["seen"].dtype).startswith("datetime64")
    for wrong, message in (("DELETE FROM t RETURNING n", "permission|read-only"),
                           ("SELECT nothing FROM t", "nothing")):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            loaded(address, tmp_path, query=wrong)
        assert "cr:et" not in str(caught.value)
    monkeypatch.setenv("PG_WORD", "wr0ng")
    with pytest.raises(ServiceError, match="password authentication failed") as refused:
        loaded(address, tmp_path, query=query)
    assert "wr0ng" not in str(refused.value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_an_address_is_fetched(tmp_path: Path, server: str) -> None:
    """http gives the file; 404 is wrong input; nobody there is a failed service."""
    (tmp_path / "t.csv").write_text(text(), "utf-8")
    same(loaded(f"{server}/t.csv?token=s3cret", tmp_path).frame)
    with pytest.raises(DataError, match="404"):
        loaded(f"{server}/none.csv", tmp_path)
    with pytest.raises(ServiceError) as caught:
        loaded("http://127.0.0.1:1/t.csv?token=s3cret", tmp_path)
    assert "s3cret" not in str(caught.value)


def test_fsspec_addresses(tmp_path: Path) -> None:
    """Any file system that fsspec knows; an unknown one is wrong input."""
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://surefit/t.csv", "w") as file:
        file.write(text())
    same(loaded("memory://surefit/t.csv", tmp_path).frame)
    with pytest.raises(DataError, match="no file"):
        loaded("memory://surefit/none.csv", tmp_path)
    with pytest.raises(InputError, match="fsspec"):
        loaded("nosuch://a/t.csv", tmp_path)


def test_parts_at_an_fsspec_address(tmp_path: Path) -> None:
    """A folder or a pattern there gives its parts, in the order of their names."""
    fsspec = pytest.importorskip("fsspec")
    for i in (1, 0):
        with fsspec.open(f"memory://parted/part-{i}.csv", "w") as file:
            file.write(ROWS.iloc[2 * i : 2 * i + 2].to_csv(index=False))
    with fsspec.open("memory://parted/_SUCCESS", "w") as file:
        file.write("")
    for path in ("memory://parted/", "memory://parted/part-*.csv"):
        found = loaded(path, tmp_path)
        same(found.frame)
        assert "2 files: part-0.csv" in found.notes[0].text
    with pytest.raises(DataError, match="No file matches"):
        loaded("memory://parted/x*.csv", tmp_path)


@pytest.mark.filterwarnings("default")  # those of the libraries of the service
def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """s3:// by s3fs from a server that speaks S3, on this machine."""
    server = pytest.importorskip("moto.server")
    fsspec, _ = pytest.importorskip("fsspec"), pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        for name, value in {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "s3cret",
                            "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
                            "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("bucket")
        for i in range(2):
            with store.open(f"bucket/parts/{i}.csv.gz", "wb") as file:
                text = ROWS.iloc[2 * i : 2 * i + 2].to_csv(index=False)
                file.write(gzip.compress(text.encode()))
        same(loaded("s3://bucket/parts/*.csv.gz", tmp_path).frame)
        assert len(loaded("s3://bucket/parts/1.csv.gz", tmp_path).frame) == 2
        for absent in ("s3://bucket/none.csv", "s3://none/t.csv"):
            with pytest.raises(DataError, match="no file"):
                loaded(absent, tmp_path)
    finally:
        running.stop()


def test_a_missing_library_names_the_line_that_installs_it(tmp_path: Path) -> None:
    """s3:// without its library says what to install."""
    try:
        import s3fs  # noqa: F401
    except ImportError:
        pytest.importorskip("fsspec")
        with pytest.raises(InputError, match=r"pip install 'surefit\[s3\]'"):
            loaded("s3://bucket/t.csv", tmp_path)


def test_the_users_own_function(tmp_path: Path) -> None:
    """data.py:load gives the table; its failure is the user's, with the traceback."""
    (tmp_path / "data.py").write_text(
        "import pandas as pd\ndef load():\n    return pd.DataFrame({'n': [1, 2]})\n"
        "def wrong():\n    raise KeyError('gone')\ndef text():\n    return 'x'\n"
    )
    assert list(loaded("data.py:load", tmp_path).frame["n"]) == [1, 2]
    with pytest.raises(UserCodeError, match=r"data\.py:wrong failed: KeyError"):
        loaded("data.py:wrong", tmp_path)
    with pytest.raises(DataError, match="did you mean"):
        loaded("data.py:laod", tmp_path)
    with pytest.raises(DataError, match="no table"):
        loaded("data.py:text", tmp_path)
    with pytest.raises(DataError, match="no file"):
        loaded("absent.py:load", tmp_path)


def test_frames_of_other_libraries() -> None:
    """Polars (eager and lazy) and Arrow tables are taken as they are."""
    import pyarrow as pa

    same(frames.to_pandas(pa.Table.from_pandas(ROWS)))
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(ROWS)
    same(frames.to_pandas(frame))
    same(frames.to_pandas(frame.lazy()))
    same(frames.to_pandas(frame.with_columns(polars.col("city").cast(polars.Categorical))))
    assert not frames.is_table("t.csv")
    assert not frames.is_table(Path("t.csv"))


def test_categories_and_decimals_of_arrow() -> None:
    """Categories come as text, decimals as numbers, dates as dates."""
    import datetime
    import decimal

    import pyarrow as pa

    table = pa.table({
        "c": pa.array(["a", "b", "a"]).dictionary_encode(),
        "d": pa.array([decimal.Decimal("1.5")] * 3),
        "t": pa.array([datetime.date(2024, 1, 1)] * 3),
    })  # fmt: skip
    frame = frames.to_pandas(table)
    assert list(frame["c"]) == ["a", "b", "a"]
    assert frame["d"].sum() == 4.5
    assert frame["t"].dtype.kind == "M"
