"""The configuration: every mistake at once, with the nearest key; layers; a lossless round trip."""

import contextlib
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefit import Config
from surefit.config import amend, name_of, remember, resolve, validate
from surefit.errors import ConfigError
from surefit.sections import seconds
from surefit.verbs.init import toml

LEAST = {"data": {"path": "churn.csv", "target": "churned"}}


def written(folder, text):
    """A surefit.toml with these lines."""
    file = folder / "surefit.toml"
    file.write_text(text)
    return file


def message(tables):
    """What is said about a wrong configuration."""
    with pytest.raises(ConfigError) as caught:
        validate(tables)
    return str(caught.value)


def test_every_mistake_is_reported_at_once_with_the_nearest_key():
    """A file with mistakes in four sections gives one message that names them all."""
    said = message({
        **LEAST,
        "split": {"tset": 0.2, "folds": 1},
        "tune": {"trails": 5, "budget": "soon", "workers": "two"},
        "gate": {"against": "best"},
        "spilt": {},
    })  # fmt: skip
    assert "7 mistakes" in said
    assert 'split.tset: there is no such key; did you mean "test"?' in said
    assert 'tune.trails: there is no such key; did you mean "trials"?' in said
    assert 'spilt: there is no such key; did you mean "split"?' in said
    assert "split.folds = 1" in said
    assert "tune.budget = 'soon'" in said
    assert "tune.workers = 'two'" in said
    assert "gate.against = 'best'" in said


@pytest.mark.parametrize(
    ("kept", "asked", "left"),
    [("folds=4", "split.valid=0.2", (5, 0.2)), ("valid=0.3", "split.folds=4", (4, None))],
)
def test_another_way_to_divide_rows_takes_the_place_of_the_one_before(kept, asked, left, tmp_path):
    """Folds after a share for validation, or the other way, in a file or remembered; both at once
    are still refused."""
    file = tmp_path / "surefit.toml"
    file.write_text(f'[data]\npath = "x.csv"\ntarget = "y"\n[split]\n{kept}\n')
    found = [resolve(root=tmp_path, overrides=[asked]), amend(resolve(root=tmp_path), [asked])]
    file.unlink()
    given = {"data": "x.csv", "target": "y", "root": tmp_path}
    remember(resolve(**given, overrides=[f"split.{kept}"]))
    found.append(resolve(root=tmp_path, overrides=[asked]))
    assert [(f.config.split.folds, f.config.split.valid) for f in found] == [left] * 3
    with pytest.raises(ConfigError, match="folds or valid"):
        resolve(**given, overrides=["split.valid=0.2", "split.folds=3"])


def test_a_key_like_no_other_is_answered_with_all_known_ones():
    """Where no key is near, the message lists those of the section."""
    assert "known: against, alpha" in message({**LEAST, "gate": {"zzz": 1}})


def test_types_are_not_converted_silently():
    """A number as text, and a text as number, are mistakes."""
    said = message({**LEAST, "split": {"test": "0.2", "seed": 1.5}, "name": 7})
    assert "split.test = '0.2'" in said
    assert "split.seed = 1.5" in said
    assert "name = 7" in said


def test_folds_and_one_validation_set_exclude_each_other():
    """split.folds beside split.valid is refused, and so is a split that leaves nothing to train."""
    assert "folds or valid, not both" in message({**LEAST, "split": {"folds": 3, "valid": 0.2}})
    assert "below 1" in message({**LEAST, "split": {"test": 0.5, "valid": 0.5}})


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0s", "1.5.2h", "10 parsecs", "1e3"])
def test_a_wrong_duration_is_refused_with_an_example(text):
    """What is no positive duration names one that is."""
    with pytest.raises(ValueError, match="10m"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" 45 ", 45), ("1d", 86400)]
)
def test_durations_are_read_in_their_units(text, expected):
    """Seconds, minutes, hours and days."""
    assert seconds(text) == expected


def test_defaults_need_only_data_and_target():
    """The shortest file has the documented defaults."""
    config = validate(LEAST)
    assert config.name == "churn"
    assert (config.split.test, config.split.folds, config.split.seed) == (0.2, 5, 0)
    assert (config.model.family, config.tune.method) == ("lightgbm", "tpe")
    assert config.tracking.uri == "sqlite:///mlflow.db"


def test_values_of_set_are_toml_or_text(tmp_path):
    """--set takes numbers, lists and booleans as TOML has them, and anything else as text."""
    project = resolve(
        data="a.csv", target="y", root=tmp_path,
        overrides=["split.test=0.3", "data.drop=[\"b\", \"c\"]", "tune.race=false",
                   "model.family=linear", "model.params.C=2", "data.id=row id",
                   "metric.optimize=\"roc_auc\"", "data.positive=a=b"],
    )  # fmt: skip
    config = project.config
    assert config.split.test == 0.3
    assert config.data.drop == ["b", "c"]
    assert config.tune.race is False
    assert config.model.family == "linear"
    assert config.model.params == {"C": 2}
    assert config.data.id == "row id"
    assert config.metric.optimize == "roc_auc"
    assert config.data.positive == "a=b"


def test_overrides_from_python_are_values_not_texts(tmp_path):
    """A dict, a tuple, a NumPy number and None mean what they mean in Python."""
    given = {"model.params": {"C": np.float64(2), "n": np.int64(3)}, "data.drop": ("b",),
             "tune.space": {"C": [1, 2]}, "split.valid": None, "name": "5"}  # fmt: skip
    config = resolve(data="a.csv", target="y", root=tmp_path, overrides=given).config
    assert config.model.params == {"C": 2.0, "n": 3}
    assert type(config.model.params["n"]) is int
    assert config.data.drop == ["b"]
    assert config.tune.space == {"C": [1, 2]}
    assert config.split.valid is None
    assert config.name == "5"


def test_set_without_an_equals_sign_shows_how_it_is_written(tmp_path):
    """All malformed overrides are named in one message with an example."""
    with pytest.raises(ConfigError, match=r"'split.test', '=3'") as caught:
        resolve(data="a.csv", target="y", root=tmp_path, overrides=["split.test", "=3"])
    assert "--set model.params.learning_rate=0.05" in str(caught.value)


def test_overrides_win_over_arguments_and_arguments_over_the_file(tmp_path):
    """Each key remembers where it came from."""
    written(tmp_path, '[data]\npath = "a.csv"\ntarget = "y"\n[split]\ntest = 0.1\nseed = 3\n')
    project = resolve(root=tmp_path, data="b.csv", overrides=["split.test=0.3"])
    assert (project.config.data.path, project.config.data.target) == ("b.csv", "y")
    assert (project.config.split.test, project.config.split.seed) == (0.3, 3)
    assert project.origins["data.path"] == "argument"
    assert project.origins["split.test"] == "--set"
    assert project.origins["split.seed"] == "surefit.toml"
    assert amend(project, ["tune.trials=3"]).config.tune.trials == 3


def test_what_was_used_last_is_remembered_until_a_file_says_otherwise(tmp_path):
    """Later commands need no arguments; surefit.toml takes precedence; the model is not kept."""
    first = resolve(root=tmp_path, data="a.csv", target="y",
                    overrides=["model.family=linear", "split.seed=4"])  # fmt: skip
    remember(first)
    again = resolve(root=tmp_path)
    assert (again.config.data.path, again.config.split.seed) == ("a.csv", 4)
    assert again.config.model.family == "lightgbm"
    written(tmp_path, '[data]\npath = "b.csv"\ntarget = "z"\n')
    assert resolve(root=tmp_path).config.data.path == "b.csv"
    remember(first)
    assert resolve(root=tmp_path).config.data.path == "b.csv"


def test_a_misspelled_section_is_a_mistake_of_the_file(tmp_path):
    """[dta] for [data] is told as such, not as a folder without a project."""
    file = written(tmp_path, '[dta]\npath = "a.csv"\ntarget = "y"\n')
    with pytest.raises(ConfigError, match=r'dta: there is no such key; did you mean "data"'):
        resolve(config=file)


def test_a_folder_without_anything_names_the_first_command(tmp_path):
    """Nothing to work on is one sentence and the command to type."""
    with pytest.raises(ConfigError, match="surefit train FILE --target COLUMN"):
        resolve(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("[data", "key = "),
        ("\x00", "key = "),
        ("a = 1\na = 2", "give each key once"),
        ('name = "x', "key = "),
        ("[gate]\nmargin = 1\n[data]\n[gate]\n", r"each \[section\] once"),
        ("[data]\npath = churn.csv", 'path = "churn.csv"'),
        ("[tune]\nrace = True\ntrials = 3", "race = true"),
        ('path = "C:\\data"', "single quotes"),
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path, text, fix):
    """A syntax mistake gives the file, the place, and for the common ones the line to write."""
    with pytest.raises(ConfigError, match=rf"(?s)surefit\.toml is not valid TOML.*Fix: .*{fix}"):
        resolve(config=written(tmp_path, text))


def test_a_file_that_is_no_text_is_named(tmp_path):
    """Bytes that are no UTF-8 give one line."""
    file = tmp_path / "surefit.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve(config=file)


@pytest.mark.parametrize(
    ("path", "name"),
    [("data/churn 2.csv", "churn-2"), ("sklearn:iris", "iris"), ("/a/b/x.tar.gz", "x"),
     ("...", "project"), ("äöü.csv", "project")],
)  # fmt: skip
def test_a_project_is_named_after_its_data(path, name):
    """A name that MLflow and file systems take is made from any path."""
    assert name_of(path) == name


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1,
                max_size=20)  # fmt: skip
scalars = st.one_of(words, st.integers(-(2**31), 2**31), st.booleans(),
                    st.floats(-1e9, 1e9, allow_nan=False))  # fmt: skip
configurations = st.fixed_dictionaries(
    {
        "name": names,
        "data": st.fixed_dictionaries(
            {"path": words, "target": words},
            optional={"id": words, "drop": st.lists(words, max_size=3), "positive": scalars,
                      "types": st.dictionaries(words, st.sampled_from(["number", "text"]))},
        ),
        "split": st.one_of(
            st.fixed_dictionaries({"test": st.floats(0, 0.9), "folds": st.integers(2, 50)}),
            st.fixed_dictionaries({"test": st.floats(0, 0.4), "valid": st.floats(0.01, 0.5)}),
        ),
    },
    optional={
        "model": st.fixed_dictionaries({"params": st.dictionaries(words, scalars, max_size=3)}),
        "gate": st.fixed_dictionaries({"floors": st.dictionaries(words, st.one_of(
            st.floats(-1, 1), st.fixed_dictionaries(
                {"value": st.floats(-1, 1), "by": st.sampled_from(["point", "interval"])})))}),
        "tune": st.fixed_dictionaries({"budget": st.just("10m"), "workers": st.just("auto"),
                                       "space": st.dictionaries(words, words, max_size=3)}),
    },
)  # fmt: skip


@given(configurations)
@settings(max_examples=60, deadline=None)
def test_a_configuration_written_as_toml_reads_back_equal(tables):
    """read(write(x)) == x, written whole and as init writes it, and the digest is the same."""
    config = validate(tables)
    for text in (config.to_toml(), toml(config)):
        again = validate(tomllib.loads(text))
        assert again == config
        assert again.digest() == config.digest()


@given(words, scalars)
@settings(max_examples=60, deadline=None)
def test_no_wrong_key_or_value_gets_through_or_crashes(key, value):
    """Any key and value in any section is taken or refused as a mistake, never another error."""
    for section in ("split", "tune", "gate", "metric"):
        with contextlib.suppress(ConfigError):
            validate({**LEAST, section: {key: value}})
    for name in ("folds", "test"):
        with contextlib.suppress(ConfigError):
            validate({**LEAST, "split": {name: value}})


@pytest.mark.parametrize(
    ("given", "right"),
    [("high", "0.8"), (True, "0.8"), (float("nan"), "0.8"), ({"by": "point"}, "0.8"),
     ({"value": 0.7, "by": "bound"}, "0.7"), ({"value": 0.7, "mode": "point"}, "0.7")],
)  # fmt: skip
def test_a_wrong_floor_is_refused_with_the_right_line(given, right):
    """Whatever is wrong with a floor, its key is named and both forms are shown."""
    with pytest.raises(ConfigError) as refused:
        validate({**LEAST, "gate": {"floors": {"roc_auc": given, "recall": 0.5}}})
    assert "gate.floors.roc_auc" in str(refused.value)
    assert f'write {right}, or {{ value = {right}, by = "point" }}' in str(refused.value)


def test_read_gives_the_configuration_of_a_file(tmp_path):
    """Config.read is the file, resolved."""
    file = written(tmp_path, '[data]\npath = "a.csv"\ntarget = "y"\n')
    assert Config.read(file).data.target == "y"
    with pytest.raises(ConfigError, match="There is no file"):
        Config.read(tmp_path / "none.toml")
