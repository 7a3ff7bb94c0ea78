"""Write the list of every file at the end of ARCHITECTURE.md: each file's own first line."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
HEADING = "## Every file"
PACKAGE = "src/surefit"
FOLDERS = {
    PACKAGE: "The package",
    f"{PACKAGE}/core": "`core`: pure computing",
    f"{PACKAGE}/models": "`models`: the built-in families",
    f"{PACKAGE}/edges": "`edges`: each knows one thing outside",
    f"{PACKAGE}/verbs": "`verbs`: one file a verb, and what they share",
    f"{PACKAGE}/templates": "`templates`",
    f"{PACKAGE}/templates/project": "`templates/project`: what `surefit init` writes",
    "tests": "`tests`",
    "bench": "`bench`",
    "scripts": "`scripts`",
}
WITHOUT_A_FIRST_LINE = {
    "ci-github.yml": "The workflow that `surefit init --ci github` writes.",
    "py.typed": "Marks the package as typed.",
    "report.html": "The page of every report; filled by `core/page.py`.",
    "README.md": "What a written project says about its files.",
    "gitignore": "Keeps the store and caches out of git.",
    "search_quality.jsonl": "What `search_quality.py --keep` has measured so far.",
    "surefit.toml": "Every section, with the commonest keys as comments for init to fill in.",
}


def files(folder: str) -> list[Path]:
    """The files of one folder, sorted; what tools leave behind is no file of ours."""
    found = (ROOT / folder).iterdir() if (ROOT / folder).is_dir() else ()
    return sorted(p for p in found if p.is_file() and not p.name.startswith("."))


def shown(path: Path) -> str:
    """A file's name in the list: relative to the package, or to the repository."""
    return path.relative_to(ROOT).as_posix().removeprefix(f"{PACKAGE}/")


def about(path: Path) -> str:
    """The first line of a module's docstring, or what we say here."""
    if path.suffix != ".py":
        return WITHOUT_A_FIRST_LINE.get(path.name, "")
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def listing() -> str:
    """The whole list as Markdown."""
    parts = [f"{HEADING}\n\nWritten by `make docs` from each file's first line.\n"]
    for folder, title in FOLDERS.items():
        rows = [f"| `{shown(p)}` | {about(p)} |" for p in files(folder)]
        if rows:
            parts.append("\n".join([f"### {title}\n", "| file | what it is |", "|---|---|", *rows]))
            parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    before = PAGE.read_text("utf-8").partition(HEADING)[0]
    PAGE.write_text(before + listing(), "utf-8")
