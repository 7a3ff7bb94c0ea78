"""The pages say what the program does: generated ones are current, tables match the code."""

import importlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

import surefit
from surefit.cli import cli
from surefit.config import Config
from surefit.sections import Section

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md",
         *sorted(DOCS.glob("*.md"))]  # fmt: skip
PINS = dict(x.split("==") for x in (ROOT / "constraints.txt").read_text("utf-8").split())
PARTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
DECIDE = ("lightgbm", "numpy", "optuna", "scikit-learn", "scipy")


@pytest.fixture
def script(monkeypatch):
    """Imports a file of scripts/ by its name."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    yield importlib.import_module
    for name in ("cli_page", "session"):
        sys.modules.pop(name, None)


# --- the configuration ---


def keys(section=Config, prefix=""):
    """Dotted keys of the configuration with their fields."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def documented_keys():
    """Key → the default that docs/configuration.md gives, as it is written there."""
    page = (DOCS / "configuration.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \| \S", page, re.MULTILINE)
    return dict(rows)


def test_every_key_is_documented():
    """docs/configuration.md has a row for every key of surefit.toml, and no other."""
    assert sorted(documented_keys()) == sorted(name for name, _ in keys())


@pytest.mark.parametrize("key", [name for name, _ in keys()])
def test_documented_default_is_the_default(key):
    """A key's default in docs/configuration.md is the one in the code."""
    field, said = dict(keys())[key], documented_keys()[key]
    if field.is_required():
        assert said in ("required", "from `data.path`")
    elif field.default is None:
        assert said == "none"
    else:
        written = "{}" if said == "`{}`" else said.strip("`")
        assert tomllib.loads(f"v = {written}")["v"] == field.default


# --- the commands ---


@pytest.mark.skipif(
    importlib.metadata.version("click") != PINS["click"],
    reason="click lays out its help differently from version to version; make docs uses the pinned",
)
def test_command_page_is_current(script):
    """docs/cli.md is what --help says now; `make docs` writes it."""
    assert (DOCS / "cli.md").read_text("utf-8") == script("cli_page").page()


@pytest.mark.parametrize("verb", cli.commands)
def test_every_verb_is_in_the_readme(verb):
    """README's table of verbs has every command."""
    assert f"| `surefit {verb}" in README


def test_documented_options_exist():
    """Every option that a page gives to a surefit command is one of that command's."""
    wrong = []
    for page in PAGES:
        for verb, rest in re.findall(r"surefit (\w+)([^\n`|]*)", page.read_text("utf-8")):
            if verb in cli.commands:
                known = {o for p in cli.commands[verb].params for o in p.opts} | {"--help"}
                rest = rest.partition("#")[0]
                given = re.findall(r"(?<![\w-])(--[a-z-]+)", rest.partition("&&")[0])
                wrong += [f"{page.name}: {verb} {o}" for o in given if o not in known]
    assert wrong == []


def test_public_names_are_documented():
    """README's Python section names every verb of the package."""
    verbs = [name for name in surefit.__all__ if name.islower()]
    assert [name for name in verbs if f"surefit.{name}(" not in README] == []


# --- the session ---


def shape(text):
    """Text with ids, numbers and runs of spaces taken out, and what milliseconds decide."""
    text = re.sub(r"(?m)^(Among the tied, proposed: |Next: surefit promote ).*$", r"\1", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", re.sub(r"m-[0-9a-f]{32}", "m-ID", text))
    text = re.sub(r"\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"[-+]?\d[\d,]*(\.\d+)?(e-?\d+)?", "#", text)
    return re.sub(r" +", " ", text)


def numbers(text):
    """All numbers with a decimal point, in order, but for what was timed."""
    text = re.sub(r"(?m)^Among the tied, proposed: .*$", "", text)
    return [float(n) for n in re.findall(r"(?<![\w.])[-+]?\d+\.\d+", text)]


def test_readme_shows_the_session():
    """README holds docs/session.txt word for word."""
    assert f"```text\n{(DOCS / 'session.txt').read_text('utf-8')}```" in README


def test_session_is_what_the_program_prints(script, tmp_path):
    """The commands of README's session print what it shows, but for ids; numbers where the
    library versions are the pinned ones."""
    shown = (DOCS / "session.txt").read_text("utf-8")
    printed = script("session").session(tmp_path)
    same = all(importlib.metadata.version(name) == PINS[name] for name in DECIDE)
    if same:
        assert shape(printed) == shape(shown)
        assert numbers(printed) == pytest.approx(numbers(shown), rel=0.02, abs=0.005)
    commands = [line for line in shown.splitlines() if line.startswith("$")]
    assert [line for line in printed.splitlines() if line.startswith("$")] == commands
    assert "PROMOTED" in printed


# --- links ---


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    """Every relative link of a page names a file, and a heading where it names one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, target


def test_named_parts_can_be_installed():
    """Every `surefit[part]` that a page or a message names is one that pyproject.toml has."""
    texts = [*PAGES, *(ROOT / "src").rglob("*.py")]
    named = {
        part
        for text in texts
        for found in re.findall(r"surefit\[([a-z0-9,]+)\]", text.read_text("utf-8"))
        for part in found.split(",")
    }
    raised = {
        name
        for text in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"\bextra=\"(?!forbid)(\w+)\"", text.read_text("utf-8"))
    }
    assert named | raised <= set(PARTS)


def test_doctor_has_words_for_every_part():
    """surefit doctor says what each optional part is for, by its name in pyproject.toml."""
    from surefit.verbs.doctor import PURPOSES

    assert set(PURPOSES) == set(PARTS) - {"dev", "dev-torch"}


def test_constraints_are_names_and_versions():
    """constraints.txt holds nothing but name==version: no path, no address, not surefit."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [x for x in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", x)] == []
    assert [x for x in lines if x.startswith("surefit")] == []
