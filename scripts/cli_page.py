"""Write docs/cli.md from `--help`; a test checks that it is current."""

from pathlib import Path

import click

from surefit.cli import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
TOP = """# Commands

Written by `make docs` from `surefit --help` and `surefit VERB --help`.

Every command prints its result on standard output (`--json` for programs) and its plan and
progress on standard error (`--quiet` for none).
"""


def page() -> str:
    """The whole page as Markdown."""
    top = made(cli, "surefit", None)
    parts = [TOP, block(cli.get_help(top))]
    for name, command in cli.commands.items():
        context = made(command, name, top)
        parts += [f"## surefit {name}\n", block(command.get_help(context))]
    return "\n".join(parts)


def made(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """The context that a command line would make, its settings included."""
    return command.make_context(name, [], parent, resilient_parsing=True, terminal_width=96)


def block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
