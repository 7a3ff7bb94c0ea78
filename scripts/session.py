"""Run the session that README shows, and write down what it printed, and the picture it made.

A test runs the same commands again and compares.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COMMANDS = (
    "surefit train sklearn:breast_cancer --target target",
    "surefit train --set model.family=linear",
    "surefit tune --trials 12",
    "surefit compare",
    "surefit promote best",
)


def session(folder: Path) -> str:
    """What the commands print on standard output in that folder, each after its own line.

    Raises:
        CalledProcessError: when one does not end with exit code 0.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = []
    for command in COMMANDS:
        done = subprocess.run(
            [*command.split(), "--quiet"], cwd=folder, env={**os.environ, "PATH": path}, text=True,
            capture_output=True,
        )  # fmt: skip
        if done.returncode:
            print(done.stderr, file=sys.stderr)
        done.check_returncode()
        lines = [line.rstrip() for line in done.stdout.splitlines()]
        said.append("\n".join([f"$ {command}", *lines]))
    return "\n\n".join(said) + "\n"


def readme_with(text: str, readme: str) -> str:
    """README with the session between its two marks."""
    before, _, rest = readme.partition("<!-- session -->")
    _, _, after = rest.partition("<!-- end of session -->")
    return f"{before}<!-- session -->\n```text\n{text}```\n<!-- end of session -->{after}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = session(Path(folder))
        (picture,) = Path(folder).glob("mlruns/**/plots/leaderboard.png")
        shutil.copyfile(picture, DOCS / "leaderboard.png")
    (DOCS / "session.txt").write_text(text, "utf-8")
    readme = ROOT / "README.md"
    readme.write_text(readme_with(text, readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
