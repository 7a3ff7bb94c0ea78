"""`surefit init`: a project the user owns: one TOML file and four scripts."""

from __future__ import annotations

import importlib.resources
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefit.config import FILE, Config, Project
from surefit.edges import sources
from surefit.errors import InputError, did_you_mean
from surefit.results import Shown
from surefit.verbs import workspace
from surefit.verbs.reporter import Reporter
from surefit.verbs.workspace import Overrides

CI = {"github": ".github/workflows/surefit.yml"}
SCRIPTS = ("train.py", "evaluate.py", "tune.py", "compare.py", "README.md", ".gitignore")


@dataclass(frozen=True, kw_only=True)
class Written(Shown):
    """The files that were written, and those left as they were."""

    directory: str
    written: tuple[str, ...]
    kept: tuple[str, ...]
    next: str

    def lines(self) -> list[str]:
        """The result in words."""
        lines = [f"Wrote {', '.join(self.written) or 'nothing'} in {self.directory}"]
        if self.kept:
            lines.append(f"Left as they were: {', '.join(self.kept)}")
        return [*lines, f"Next: {self.next}"]


def init(
    directory: str | Path = ".",
    *,
    data: str | None = None,
    target: str | None = None,
    ci: str | None = None,
    set: Overrides = (),
    quiet: bool = False,
) -> Written:
    """Write surefit.toml and the four scripts of an MLflow project; nothing is overwritten.

    The data are looked at first: a project on a table that cannot be used is not begun.

    Args:
        directory: made if it is not there.
        data, target: the table and its target; by default what the last command here used.
        ci: "github": also a workflow that trains and compares on a pull request and promotes on
            merge.
        set: further keys.
        quiet: say nothing on standard error.

    Raises:
        InputError: when the data cannot be used, or the directory cannot be written.
    """
    folder = Path(directory)
    project = _project(folder, data, target, set)
    workspace.load(project, frame=None, reporter=Reporter(quiet=quiet))
    files = {FILE: toml(project.config)} | {name: _template(name) for name in SCRIPTS}
    if ci is not None:
        if ci not in CI:
            raise InputError(f'--ci "{ci}": {did_you_mean(ci, CI)}')
        files[CI[ci]] = _template(f"ci-{ci}.yml")
    written, kept = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if (folder / name).exists():
                kept.append(name)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, "utf-8")
                written.append(name)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from None
    where = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    return Written(
        directory=str(folder), written=tuple(written), kept=tuple(kept),
        next=f"{where}surefit train   (or: python train.py)",
    )  # fmt: skip


def _project(folder: Path, data: str | None, target: str | None, overrides: Overrides) -> Project:
    """The project, its data path relative to the new folder; nothing is asked of the folder yet."""
    if (folder / FILE).exists():
        if data is not None and sources.is_file(data):  # named from here, not from that folder
            data = str(Path(data).expanduser().resolve())
        return workspace.project(
            data=data, target=target, config=folder / FILE, overrides=overrides
        )
    found = workspace.project(data=data, target=target, config=None, overrides=overrides)
    path = found.config.data.path
    if sources.is_file(path):
        path = os.path.relpath(found.root / Path(path).expanduser(), folder.resolve())
        path = (
            path
            if not path.startswith(os.pardir + os.sep + os.pardir)
            else str((found.root / Path(found.config.data.path).expanduser()).resolve())
        )
    section = found.config.data.model_copy(update={"path": path})
    config = found.config.model_copy(update={"data": section})
    return Project(config=config, root=folder.resolve(), origins=found.origins)


def toml(config: Config) -> str:
    """A file to edit: every section once, its values filled in, other common keys as comments."""
    values = {"": {"name": config.name}, **config.changed()}
    section = ""
    lines: list[str] = []
    for line in [*_template(FILE).splitlines(), "[]"]:
        if line.startswith("["):
            lines[-1:-1] = [f"{key} = {_inline(v)}" for key, v in values.get(section, {}).items()]
            section = line.strip("[]")
        lines.append(_filled(line, values.get(section, {})))
    return "\n".join([*lines[:-1], ""])


def _filled(line: str, values: dict[str, Any]) -> str:
    """A line of the template with the value of its key, if that is set; it is then dealt with."""
    key, after, example = line.removeprefix("# ").partition(" = ")
    if not after or key not in values:
        return line
    _, mark, comment = example.partition("  #")
    text = f"{key} = {_inline(values.pop(key))}"
    return f"{text:<34}  #{comment}" if mark else text


def _inline(value: Any) -> str:
    """A value as TOML on one line."""
    import tomlkit

    if not isinstance(value, Mapping):
        return str(tomlkit.item(value).as_string())
    table = tomlkit.inline_table()
    table.update(value)
    return str(table.as_string())


def _template(name: str) -> str:
    return (importlib.resources.files("surefit") / "templates" / "project" / name.removeprefix(".")
            ).read_text("utf-8")  # fmt: skip
