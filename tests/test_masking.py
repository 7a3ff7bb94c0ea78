"""Records without secrets still are what they were: JSON, TOML, Python, and what reads them."""

from __future__ import annotations

import ast
import json
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import REPOSITORY
from surefit import masking
from surefit.errors import InputError
from surefit.redaction import redact
from tables import mixed
from test_tune import table, trials_of

NAMES = ["password", "api_key", "session_token", "AWS_SECRET_ACCESS_KEY", "min_token", "path", "x"]
SECRET = "hunter2xyz"  # in all that must not be left
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    st.sampled_from([f"postgresql://me:{SECRET}@h/d", f"password={SECRET} host=h", "category",
                     f"https://h/t?a=1&X-Amz-Signature={SECRET}", "it's \"quoted\"\n\\n", "${PW}"]),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-(2**60), 2**60), st.booleans(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), TEXTS), inner, max_size=4),
    ),
    max_leaves=12,
)
TABLES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)


def same_shape(before: Any, after: Any) -> bool:
    """Whether only texts differ."""
    if isinstance(before, dict):
        return len(before) >= len(after) and all(
            same_shape(b, a) for b, a in zip(before.values(), after.values(), strict=False)
        )
    if isinstance(before, list):
        return len(before) == len(after) and all(map(same_shape, before, after))
    return isinstance(after, str) if isinstance(before, str) else before == after


@given(TABLES)
@example({"min_token": 1024, "session_token": SECRET})
def test_json_and_toml_stay_what_they_are(values: dict[str, Any]) -> None:
    """They are read as before, of the same structure and numbers, and hold no secret."""
    for text, read, mask in (
        (json.dumps(values), json.loads, masking.as_json),
        (tomlkit.dumps(values), tomllib.loads, masking.as_toml),
    ):
        masked = mask(text)
        assert SECRET not in masked
        assert mask(masked) == masked
        if "***" not in masked:
            assert masked == text
        elif len({*map(str, values)}) == len(read(masked)):
            assert same_shape(read(text), read(masked))


LITERALS = TEXTS.map(repr) | TEXTS.map(lambda t: repr(t.encode())) | TEXTS.map(
    lambda t: "f" + repr(t.replace("{", "{{").replace("}", "}}")))  # fmt: skip
PLACES = [
    "{name} = {value}", "{name}: str = {value}", "self.{name} = ({value}\n  {value})",
    "def f(a, {name}={value}, *, b={value}): return a", "f({name}={value})",
    "d = {{'{name}': {value}, 'b': [{value}, 3]}}", "os.environ['{name}'] = {value}",
    "os.environ.get('{name}', {value})", "if {name} == {value}: pass", "# {name} = {value}",
    "def f():\n    {value}\n    return {value}  # é {name}={value}",
    "x = [{value}, ('ü', {value})]",
]  # fmt: skip


def without_texts(tree: ast.AST) -> list[str]:
    """The nodes of a syntax tree, literals of text left out."""
    texts = (ast.JoinedStr, ast.FormattedValue)
    return [
        type(node).__name__
        for node in ast.walk(tree)
        if not isinstance(node, texts)
        and not (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
    ]


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(NAMES), LITERALS), max_size=4))
def test_python_still_parses(lines: list[tuple[str, str, str]]) -> None:
    """The code is the same but for texts, and holds no secret; what holds none is left as it is."""
    usable = [(p, n, v) for p, n, v in lines if not ("({value}" in p and v[0] in "bf")]
    text = "\n".join(p.format(name=n, value=v) for p, n, v in usable) + "\n"
    masked = masking.as_python(text)
    assert SECRET not in masked
    assert without_texts(ast.parse(masked)) == without_texts(ast.parse(text))
    assert masking.as_python(masked) == masked


@pytest.mark.parametrize(
    "source",
    [
        "def load(path, token=None): ...\n", "max_token = 512\n", "pad_token = '[PAD]'\n",
        "token = os.environ['API_TOKEN']\n", "password = getpass('Password: ')\n",
        "url = f'postgresql://{user}:{password}@{host}/d'\n", "# token=None: none is needed\n",
        "types = {'session_token': 'category'}\n", "URL = 'postgresql://ann@h/${PG}'\n",
        'def f(token):\n    """Do.\n\n    Args:\n        token: what is asked with.\n    """\n',
    ],
)  # fmt: skip
def test_code_that_only_speaks_of_secrets_is_left_as_it_is(source: str) -> None:
    """Parameters, variables, documentation: nothing in it is a secret."""
    assert masking.as_python(source) == source


def test_our_own_source_is_no_secret() -> None:
    """Of all files of surefit only the examples of masking itself have anything to mask."""
    files = (REPOSITORY / "src").rglob("*.py")
    changed = [f.name for f in files if masking.as_python(f.read_text()) != f.read_text()]
    assert {*changed} <= {"masking.py", "redaction.py"}


@pytest.mark.parametrize(
    ("source", "masked"),
    [
        ('url = "postgresql://me:hunter2@h/d"', 'url = "postgresql://***@h/d"'),
        ("f(1, password='x')", "f(1, password='x')"),
        ("f(1, password='xyz')", "f(1, password='***')"),
        ("self.api_key: str = b'a8f5f167'", "self.api_key: str = b'***'"),
        ("key = 'AKIAIOSFODNN7EXAMPLE'", "key = '***'"),
        ("user, password = 'ann', 'hunter'", "user, password = 'ann', '***'"),
        ("get('API_TOKEN', 'a8f5f167')", "get('API_TOKEN', '***')"),
        ("token = f'Bearer a8f5f167{x}'", "token = f'***'"),
        ("x = 'https://h/t?sig=abc&b=1'", "x = 'https://h/t?sig=***&b=1'"),
        ("x = 1  # password = 'hunter'", "x = 1  # password = '***'"),
        ("    def f(secret='abc'): ...", "    def f(secret='***'): ..."),
        ("lambda p: f(p, secret='abc'),)", "lambda p: f(p, secret='***'),)"),
    ],
)
def test_a_secret_in_code_is_masked_inside_its_quotes(source: str, masked: str) -> None:
    """By the name that it is given to, or by what it is."""
    assert masking.as_python(source) == masked


def test_a_diff_can_still_be_applied_where_nothing_is_secret() -> None:
    """Lines of code stay; quoted secrets, addresses and values of other files do not."""
    kept = (
        "diff --git a/model.py b/model.py\n@@ -1 +1 @@\n"
        "-def f(path, token=None):\n+def f(path, token=self.token2):\n+max_token: 1024\n"
    )
    assert masking.record("git.diff", kept) == kept
    given = (
        "+f(api_key='a8f5f167')\n+u = 'redis://:hunter@h'\n+d = 'host=h password=hunter2'\n"
        "diff --git a/.env b/.env\n+DB_PASSWORD=hunter\n"
        "diff --git a/c.yml b/c.yml\n+password: hunter\n"
    )
    assert masking.record("git.diff", kept + given) == kept + (
        "+f(api_key='***')\n+u = 'redis://***@h'\n+d = 'host=h password=***'\n"
        "diff --git a/.env b/.env\n+DB_PASSWORD=***\n"
        "diff --git a/c.yml b/c.yml\n+password: ***\n")  # fmt: skip


def test_versions_of_libraries_are_no_secrets() -> None:
    """A library whose name ends in token keeps its version; what is given to a name does not."""
    assert redact("tiktoken==0.9.0") == "tiktoken==0.9.0"
    assert redact("--set model.params.api_key=abc") == "--set model.params.api_key=***"
    shown = "https://h/t?X-Amz-Signature=*** of AWS ***"
    assert redact("https://h/t?X-Amz-Signature=abc of AWS AKIAIOSFODNN7EXAMPLE") == shown


# --- in a run ---

MODEL = '''"""Reads postgresql://{user}:{password}@host, where a password is given."""
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
import surefit


def load(path, token=None):
    return path if token is None else f"{path}?token={token}"


def build(params, min_token=1024):
    SECRET
    return make_pipeline(surefit.preprocess(scale=True), LogisticRegression())
'''
KEYS = {"split.folds": 2, "model.build": "model.py:build",
        "data.types": {"session_token": "category", "password": "number"}}  # fmt: skip


def project(folder: Any, line: str) -> str:
    """A table with columns that are named as secrets are, and a model; gives its source."""
    rows = mixed(160)[["age", "gap", "city", "y"]]
    rows = rows.rename(columns={"city": "session_token", "gap": "password"})
    rows.to_csv(folder.path / "rows.csv", index=False)
    source = MODEL.replace("SECRET", line)
    (folder.path / "model.py").write_text(source)
    return source


def test_a_run_can_be_made_again_whatever_its_names_are(folder: Any) -> None:
    """Code and configuration that speak of tokens are recorded as they are: it reproduces."""
    source = project(folder, "token = params.get('pad_token')")
    chosen = {**KEYS, "model.params": {"pad_token": "right", "min_token": 5}}
    run = folder.train("rows.csv", target="y", set=chosen).run_id
    kept = Path(folder.client.download_artifacts(run, "code/model.py", str(folder.path / "..")))
    assert kept.read_text() == source
    record = folder.client.get_run(run).data
    assert "surefit.code.masked" not in record.tags
    assert record.params["data.types.session_token"] == "category"
    assert record.params["model.params.pad_token"] == "right"
    assert folder.reproduce(run).verdict == "IDENTICAL"
    (folder.path / "model.py").write_text("def build(params): ...")
    with pytest.raises(InputError, match="changed") as refused:
        folder.eject(run)
    assert "***" not in str(refused.value.fix)
    (folder.path / "model.py").write_text(kept.read_text())
    assert folder.eject(run).run_id == run


def everything(folder: Any) -> str:
    """All that a store holds: its tables, and the artifacts that are text."""
    with sqlite3.connect(folder.path / "mlflow.db") as store:
        found = ["\n".join(store.iterdump())]
    files = (p for p in (folder.path / "mlruns").rglob("*") if p.is_file())
    return "\n".join(found + [p.read_bytes().decode("latin-1") for p in files])


def test_a_secret_in_code_or_configuration_reaches_no_run_and_that_is_said(folder: Any) -> None:
    """Its file still parses; putting it back says what it lacks, and so does making it again."""
    project(folder, f"store = 'postgresql://me:{SECRET}@h/d'  # token = '{SECRET}'")
    run = folder.train("rows.csv", target="y", set=KEYS).run_id
    hidden = {**KEYS, "model.params": {"api_key": SECRET, "min_token": 5}}
    other = folder.train("rows.csv", target="y", set=hidden).run_id
    kept = Path(folder.client.download_artifacts(run, "code/model.py", str(folder.path / "..")))
    assert "'postgresql://***@h/d'  # token = '***'" in kept.read_text()
    compile(kept.read_text(), "model.py", "exec")
    tags = folder.client.get_run(run).data.tags
    assert json.loads(tags["surefit.code.masked"]) == ["model.py"]
    assert folder.reproduce(run).verdict == "IDENTICAL"
    (folder.path / "model.py").write_text(kept.read_text())
    with pytest.raises(InputError) as refused:
        folder.eject(run)
    assert "the secrets that *** stands for in model.py" in str(refused.value.fix)
    assert any("stands for in model.py" in told for told in folder.reproduce(run).differs)
    with pytest.raises(InputError, match=r"secret in model\.params\.api_key"):
        folder.reproduce(other)
    models = list((folder.path / "mlruns").rglob("artifacts/*"))
    assert models
    recorded = folder.client.get_run(other).data.params
    assert (recorded["model.params.api_key"], recorded["model.params.min_token"]) == ("***", "5")


def hill(params: dict[str, Any], context: Any) -> float:
    """A quick function of its parameters."""
    return -abs(params["min_token"] - 3) - (params["pool_token"] == "mean")


def test_a_search_over_what_is_named_token_is_rebuilt(folder: Any) -> None:
    """Its journal in MLflow stays readable, and its trials are what they were."""
    space = {"min_token": "int 1..1024", "pool_token": ["cls", "mean"]}
    first = folder.tune(hill, space, trials=4, name="hill")
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    again = folder.tune(hill, space, trials=6, name="hill")
    assert (again.run_id, again.resumed) == (first.run_id, 4)
    assert again.trials[:4] == first.trials


def told(params: dict[str, Any], context: Any) -> float:
    """A function that is asked of addresses, and fails with one."""
    if params["x"] > 0.5:
        raise ValueError(f"postgresql://me:{SECRET}@h does not answer")
    return float(params["x"])


def test_a_search_whose_parameters_are_secrets_leaves_none_in_mlflow(folder: Any) -> None:
    """Such trials are run again where the journal is lost: a mask is no parameter."""
    space = {"x": "0..1", "store": [f"redis://:{SECRET}@h", f"redis://:{SECRET}@g"]}
    first = folder.tune(told, space, trials=6, name="told", method="random")
    assert SECRET not in everything(folder)
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    again = folder.tune(told, space, trials=6, name="told", method="random")
    assert [t.value for t in again.trials] == [t.value for t in first.trials]
    assert len(trials_of(folder)) == 6


def test_a_record_that_was_masked_into_no_json_is_no_trial(folder: Any) -> None:
    """The search takes the trials before it from MLflow, and runs the others again."""
    space = {"min_token": "int 1..9", "pool_token": ["cls", "mean"]}
    first = folder.tune(hill, space, trials=4, name="hill")
    folder.client.set_tag(trials_of(folder)[2].info.run_id, "surefit.journal", "***")
    for file in (folder.path / ".surefit" / "searches").iterdir():
        file.unlink()
    again = folder.tune(hill, space, trials=4, name="hill")
    assert (again.resumed, len(trials_of(folder))) == (2, 4)
    assert table(again) == table(first)
