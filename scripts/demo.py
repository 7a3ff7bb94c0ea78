"""`make demo`: the whole product on a bundled data set, in ./demo; run again, it goes on.

What is done already is not done twice: trained runs are kept, the search resumes, and the
champion stays unless another model is shown to be better.
"""

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "demo"
NAME = "breast_cancer"
STORE = "sqlite:///mlflow.db"
TRIALS = "24"
FAMILIES = ("linear", "lightgbm")


def main() -> int:
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    started = time.monotonic()
    os.chdir(ROOT)
    if (FOLDER / "surefit.toml").exists():
        print("The project ./demo is there already and is gone on with (make clean removes it).")
    else:
        surefit("init", "demo", "--data", f"sklearn:{NAME}", "--target", "target")
    os.chdir(FOLDER)
    trained = trained_already()
    for family in FAMILIES:
        if family in trained:
            print(f"\nA {family} model is trained already: run {trained[family]}")
        else:
            surefit("train", "--set", f"model.family={family}")
    surefit("evaluate", "last")
    surefit("tune", "--trials", TRIALS)
    board, _ = surefit("compare")
    _, answer = surefit("promote", "best", fine=(0, 1))
    return conclude(board, answer, time.monotonic() - started)


def surefit(*arguments: str, fine: tuple[int, ...] = (0,)) -> tuple[str, int]:
    """Run one command as a user would; what it prints, and its exit code."""
    print(f"\n$ surefit {' '.join(arguments)}", flush=True)
    done = subprocess.run(["surefit", *arguments], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode not in fine:
        print(f"surefit {arguments[0]} ended with exit code {done.returncode}.", file=sys.stderr)
        sys.exit(done.returncode)
    return done.stdout, done.returncode


def trained_already() -> dict[str, str]:
    """Families with a complete training run, by plain MLflow; the run's id, shortened."""
    if not Path("mlflow.db").exists():
        return {}
    found = client().search_runs(
        experiments(), "tags.`surefit.kind` = 'train' and tags.`surefit.status` = 'complete'"
    )
    return {r.data.params["model.family"]: r.info.run_id[:8] for r in found}


def conclude(board: str, answer: int, seconds: float) -> int:
    """The leaderboard, what is in production, and where to look; 0 if something is."""
    from mlflow.exceptions import MlflowException

    width = min(shutil.get_terminal_size().columns, 78)
    print("\n" + "─" * width)
    print("\n".join(line for line in board.splitlines() if not line.startswith(("Run", "Next"))))
    try:
        version = client().get_model_version_by_alias(NAME, "production")
    except MlflowException:
        print("No model passed the gate.")
        return answer or 1
    run = client().get_run(version.run_id)
    stays = "stays" if answer else "is"
    print()
    print(f"In production {stays} version {version.version} ({run.info.run_name}), for any client:")
    print(f"  models:/{NAME}@production")
    print("MLflow's UI on all of it:")
    print(f"  cd demo && {os.path.relpath(Path(sys.executable).parent)}/surefit ui")
    print(f"Done in {seconds:.0f} s.")
    return 0


def client():
    """Plain MLflow on the project's store."""
    warnings.simplefilter("ignore")
    import mlflow

    mlflow.set_tracking_uri(STORE)
    return mlflow.MlflowClient()


def experiments() -> list[str]:
    found = client().get_experiment_by_name(NAME)
    return [found.experiment_id] if found else []


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; make demo goes on from here.", file=sys.stderr)
        sys.exit(130)
