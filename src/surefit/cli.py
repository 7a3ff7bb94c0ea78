"""argv → configuration → verb → print → exit code; no logic, and nothing heavy imported."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from surefit.results import Shown

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Verbs(click.Group):
    """Lists the verbs in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, first to last."""
        return list(self.commands)


@click.group(cls=Verbs, context_settings=CONTEXT)
@click.version_option(package_name="surefit", message="surefit %(version)s")
def cli() -> None:
    """From a table to a model you can be sure of, all in plain MLflow.

    \b
    surefit check churn.csv --target churned   look at the data first: leaks, splits, a report
    surefit train churn.csv --target churned   one candidate → a run with its model
    surefit evaluate last                      metrics with intervals, plots, a report
    surefit tune --trials 50                   a search; the same command again resumes
    surefit compare                            a leaderboard, with ties and the true best
    surefit promote best                       the gate, then models:/NAME@production
    surefit rollback | history                 the version before; who, when, why

    \b
    Exit codes: 0 done; 1 the answer is no; 2 wrong input; 3 a service failed;
    4 your code failed; 70 a bug of ours; 130 and 143 interrupted.
    """


def shared(*, table: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options every verb has: where the configuration is, overrides, and how to answer."""
    options = [
        click.option("-c", "--config", type=click.Path(dir_okay=False), metavar="FILE",
                     help="The configuration; by default surefit.toml in this folder."),
        click.option("--set", "set_", multiple=True, metavar="KEY=VALUE",
                     help="Override a key: --set model.params.learning_rate=0.05. Repeatable."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing on standard error."),
    ]  # fmt: skip
    if table:
        options.insert(0, click.option("--target", metavar="COLUMN", help="The column to predict."))

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@cli.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False))
@click.option("--data", metavar="FILE", help="The table, or sklearn:NAME.")
@click.option("--target", metavar="COLUMN", help="The column to predict.")
@click.option(
    "--set", "set_", multiple=True, metavar="KEY=VALUE", help="Set any key of surefit.toml."
)
@click.option("--ci", type=click.Choice(["github"]), help="Also a workflow: promote on merge.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on standard error.")
def init(directory: str, data: str | None, target: str | None, set_: tuple[str, ...],
         ci: str | None, as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Write a project: surefit.toml, train.py, evaluate.py, tune.py, compare.py and a README.

    Without --data it freezes what the last `surefit train FILE --target COLUMN` here used.
    Files that are there already are never overwritten.
    """
    from surefit.verbs.init import init as verb

    answer(verb(Path(directory), data=data, target=target, ci=ci, set=set_, quiet=quiet), as_json)


@cli.command()
@click.argument("data", required=False, metavar="[FILE]")
@shared()
def check(data: str | None, target: str | None, config: str | None, set_: tuple[str, ...],
          as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Look at the data before any model: leaks, groups, repeats, noise, drift; a report.

    Targets of test rows are not read. Serious findings block `surefit promote` on these data until
    they are mended or waived: --set 'check.waive={ "LEAK01:name" = "the reason" }'.

    Exit code 0: nothing serious. 1: serious findings.
    """
    from surefit.verbs.check import check as verb

    result = verb(data, target=target, config=config, set=set_, quiet=quiet)
    answer(result, as_json)
    if result.serious:
        sys.exit(1)


@cli.command()
@click.argument("data", required=False, metavar="[FILE]")
@click.option("--name", help="The run's name.")
@click.option("--register", is_flag=True, help="Register the model, without a gate.")
@click.option("--to", metavar="ALIAS", help="Register, and point this alias at it at once.")
@shared()
def train(data: str | None, target: str | None, name: str | None, register: bool, to: str | None,
          config: str | None, set_: tuple[str, ...], as_json: bool,
          quiet: bool) -> None:  # fmt: skip
    """Train one candidate and record it as an MLflow run.

    FILE is a table (CSV, Parquet, Feather, JSON lines), a folder or pattern of parts, a URL,
    data.py:load or sklearn:NAME; by default what the configuration names. Choose a family with
    --set model.family=linear (lightgbm, hist, xgboost, catboost, forest, linear, mlp, dummy), or
    your own code with --set model.build=model.py:build or --set model.train=model.py:train.
    """
    from surefit.verbs.train import train as verb

    answer(
        verb(data, target=target, config=config, set=set_, name=name, register=register, to=to,
             quiet=quiet),
        as_json,
    )  # fmt: skip


@cli.command()
@click.argument("subject", default="last", metavar="[RUN|MODEL|PREDICTIONS]")
@click.option("--test", is_flag=True, help="Score the sealed test rows: a look, and counted.")
@shared()
def evaluate(subject: str, test: bool, target: str | None, config: str | None,
             set_: tuple[str, ...], as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Score predictions: metrics with 95 % intervals, plots and a report, as a run of its own.

    RUN is a run's id (or its beginning), its name, "last" or "best". MODEL is models:/NAME/3 or
    models:/NAME@production. PREDICTIONS is a CSV or Parquet file with row_id and prediction, or
    probability_CLASS for each class; a run of another program may hold such a table as
    predictions/valid.csv.

    The report says where the model fails (slices, worst rows) if the data are at hand. In the
    configuration, or with --set: metric.threshold=f1 chooses a threshold, cross-fitted;
    metric.cost.TRUE.PREDICTED=50 is a cost in money; metric.also=["metrics.py:profit"] adds a
    metric of your own.
    """
    from surefit.verbs.evaluate import evaluate as verb

    answer(verb(subject, test=test, target=target, config=config, set=set_, quiet=quiet), as_json)


@cli.command()
@click.argument("run", default="last", metavar="[RUN]")
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE",
              help="The file; by default report-NAME.html here.")  # fmt: skip
@shared(table=False)
def report(run: str, out: str | None, config: str | None, set_: tuple[str, ...], as_json: bool,
           quiet: bool) -> None:  # fmt: skip
    """Write a run's report to one HTML file that needs no network.

    RUN is an evaluation or a comparison, or a training run: then its newest evaluation, which is
    made where there is none.
    """
    from surefit.verbs.report import report as verb

    answer(verb(run, out=out, config=config, set=set_, quiet=quiet), as_json)


@cli.command()
@click.argument("data", required=False, metavar="[FILE]")
@click.option("--trials", type=int, help="How many; more than before extends the same search.")
@click.option("--budget", metavar="TIME", help="End after this time, e.g. 10m.")
@click.option("--method", help="tpe (default), random, grid, qmc, hyperopt, optuna:SAMPLER.")
@click.option("--ensemble", is_flag=True, help="Add the best trials as one model beside the best.")
@click.option("--name", help="The parent run's name.")
@shared()
def tune(data: str | None, trials: int | None, budget: str | None, method: str | None,
         ensemble: bool, name: str | None, target: str | None, config: str | None,
         set_: tuple[str, ...], as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Search hyperparameters on all cores; each trial is a run nested under the search's.

    The same command again resumes: what is finished is not run again. Give a space in surefit.toml
    ([tune.space]) or with --set 'tune.space.num_leaves="int log 8..255"'; by default the family's
    published one. --set model.family=auto searches over all families that are installed.
    """
    from surefit.edges import nursery

    nursery.ready(nursery.FOLDS)  # imports what workers need while we import what we need

    from surefit.verbs.tune import tune as verb

    answer(
        verb(data, target=target, trials=trials, budget=budget, method=method,
             ensemble=ensemble, config=config, set=set_, name=name, quiet=quiet),
        as_json,
    )  # fmt: skip


@cli.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--where",
    default="",
    metavar="FILTER",
    help="MLflow's filter, e.g. \"params.`model.family` = 'lightgbm'\"; also or, in, not "
    "and parentheses.",
)
@click.option("--metric", help="Rank by another metric than the one that decides.")
@click.option(
    "--sort",
    default="",
    metavar="KEY",
    help="Show the board by a metric, parameter or cost: fit_seconds, -model_bytes.",
)
@click.option(
    "--unpaired",
    is_flag=True,
    help="Rank runs on other rows too, apart, by metric alone; kept in the record.",
)
@click.option(
    "--limit",
    default=25,
    show_default=True,
    type=int,
    help="Read so many runs' predictions, the best by recorded metric.",
)
@click.option("--csv", metavar="FILE", help="Write the board to a .csv or .parquet file.")
@shared(table=False)
def compare(runs: tuple[str, ...], where: str, metric: str | None, sort: str, unpaired: bool,
            limit: int, csv: str | None, config: str | None, set_: tuple[str, ...],
            as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Rank runs on the same validation rows, with paired differences, ties and the true best.

    RUN is an id (or its beginning) or a name; by default all training runs, searches, and runs
    that other programs logged to the experiment with predictions/valid.parquet or .csv. Exactly
    two RUNs are also set side by side: what differs, and where they disagree.
    """
    from surefit.verbs.compare import compare as verb

    answer(
        verb(runs, where=where, metric=metric, sort=sort, unpaired=unpaired, limit=limit, csv=csv,
             config=config, set=set_, quiet=quiet),
        as_json,
    )  # fmt: skip


@cli.command()
@click.argument("run", default="best", metavar="[RUN|best]")
@click.option(
    "--to", default="production", show_default=True, metavar="ALIAS", help="The alias to move."
)
@click.option("--dry-run", is_flag=True, help="Decide and move nothing; it is a look all the same.")
@click.option("--force", is_flag=True, help="Move the alias whatever the gate says; recorded.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record; --force needs it.")
@shared()
def promote(run: str, to: str, dry_run: bool, force: bool, reason: str, target: str | None,
            config: str | None, set_: tuple[str, ...], as_json: bool,
            quiet: bool) -> None:  # fmt: skip
    """Put a run's model through the gate on the sealed test rows; move the alias if it passes.

    The gate ([gate] in surefit.toml): floors, the baseline, the champion on rows that neither
    model was trained on, slices, calibration, latency, size. Before the alias moves, a fresh
    process without surefit loads the version and must repeat its stored predictions.

    Exit code 0: PROMOTED, or moved by force. 1: REJECTED or INCONCLUSIVE.
    """
    from surefit.verbs.promote import promote as verb

    decision = verb(
        run, to=to, dry_run=dry_run, force=force, reason=reason, target=target, config=config,
        set=set_, quiet=quiet,
    )  # fmt: skip
    answer(decision, as_json)
    if decision.verdict != "PROMOTED" and not decision.moved:
        sys.exit(1)


@cli.command()
@click.option("--version", metavar="N", help="Another version than the one before.")
@click.option(
    "--to", default="production", show_default=True, metavar="ALIAS", help="The alias to move."
)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@shared(table=False)
def rollback(version: str | None, to: str, reason: str, config: str | None,
             set_: tuple[str, ...], as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Point the alias back at the version it named before, and write a record of it.

    The version's files must be whole, and it must answer its own example rows.
    Exit code 0: moved. 1: refused, since the version does not work.
    """
    from surefit.verbs.rollback import rollback as verb

    result = verb(version=version, to=to, reason=reason, config=config, set=set_, quiet=quiet)
    answer(result, as_json)
    if not result.moved:
        sys.exit(1)


@cli.command()
@click.option("--to", default="production", show_default=True, metavar="ALIAS", help="The alias.")
@shared(table=False)
def history(to: str, config: str | None, set_: tuple[str, ...], as_json: bool,
            quiet: bool) -> None:  # fmt: skip
    """Show who moved the alias, when, why and on what evidence; find tampering.

    A promotion that was cut short is finished or undone first; a move made in MLflow's UI is
    written down as made outside. Exit code 1 when a record was changed, removed or inserted.
    """
    from surefit.verbs.history import history as verb

    result = verb(to=to, config=config, set=set_, quiet=quiet)
    answer(result, as_json)
    if result.faults:
        sys.exit(1)


@cli.command()
@click.argument("input", metavar="INPUT")
@click.option("--out", required=True, metavar="FILE", help="A .parquet or .csv file to write.")
@click.option("--model", default="production", show_default=True, metavar="REF",
              help="An alias, a version's number, a models:/ URI, or a run.")  # fmt: skip
@click.option("--id", metavar="COLUMN", help="The column that names a row; by default data.id.")
@shared(table=False)
def predict(input: str, out: str, model: str, id: str | None, config: str | None,
            set_: tuple[str, ...], as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Score a CSV or Parquet file, larger than memory if need be, with the promoted model.

    The model's files are verified first. FILE holds row_id, prediction and probability_CLASS, and
    says which version answered (Parquet metadata, or FILE.meta.json). It appears whole or not at
    all; the same command goes on from where a try was cut short.
    """
    from surefit.verbs.predict import predict as verb

    answer(verb(input, out=out, model=model, id=id, config=config, set=set_, quiet=quiet), as_json)


@cli.command()
@click.argument("run", default="last", metavar="[RUN]")
@shared(table=False)
def reproduce(run: str, config: str | None, set_: tuple[str, ...], as_json: bool,
              quiet: bool) -> None:  # fmt: skip
    """Run a training run, search or trial again: IDENTICAL, WITHIN NOISE or DIFFERENT.

    RUN is an id (or its beginning), a name, "last" or "best". Nothing is checked out: what differs
    in code, configuration, data and environment is named. Where the data have moved:
    --set data.path=FILE.
    Exit code 0: IDENTICAL or WITHIN NOISE (of three seeds). 1: DIFFERENT.
    """
    from surefit.verbs.reproduce import reproduce as verb

    result = verb(run, config=config, set=set_, quiet=quiet)
    answer(result, as_json)
    if result.verdict == "DIFFERENT":
        sys.exit(1)


@cli.command()
@click.argument("run", default="last", metavar="[RUN]")
@click.argument("directory", required=False, type=click.Path(file_okay=False))
@shared(table=False)
def eject(run: str, directory: str | None, config: str | None, set_: tuple[str, ...],
          as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Write a run, or a search's winner, as a plain script that predicts the same without surefit.

    RUN is an id (or its beginning), a name, "last" or "best".
    DIRECTORY gets train.py (scikit-learn, the family's library, MLflow) and parts.csv (the split),
    and of a model of your own your files; by default ejected/ID. Where the data have moved:
    --set data.path=FILE.
    """
    from surefit.verbs.eject import eject as verb

    answer(verb(run, directory, config=config, set=set_, quiet=quiet), as_json)


@cli.command()
@shared(table=False)
def doctor(config: str | None, set_: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Close dead runs, tune the store, and say what is wrong and what mends it.

    Looked at: libraries and optional parts, configuration, store (schema, WAL, statistics),
    artifacts, runs left RUNNING, searches not yet in MLflow, promotions cut short, disk space,
    leftovers. No run is deleted, no search goes on and no alias moves to another version.

    Exit code 0: nothing serious. 1: serious findings.
    """
    from surefit.verbs.doctor import doctor as verb

    result = verb(config=config, set=set_, quiet=quiet)
    answer(result, as_json)
    if result.serious:
        sys.exit(1)


@cli.command()
@click.option("--port", default=5000, show_default=True, type=int)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("-c", "--config", type=click.Path(dir_okay=False), metavar="FILE")
def ui(port: int, host: str, config: str | None) -> None:
    """Open MLflow's own UI on this project's store."""
    from surefit.verbs.ui import ui as verb

    verb(config=config, host=host, port=port)


def answer(result: Shown, as_json: bool) -> None:
    """Print a result on standard output."""
    click.echo(
        json.dumps(result.to_dict(), indent=1, ensure_ascii=False) if as_json else str(result)
    )


def main() -> NoReturn:
    """Run the command line; every ending is one of the documented exit codes."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(_run())


def _run() -> int:
    from surefit.errors import SurefitError

    try:
        cli(standalone_mode=False)
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. The store is in order; the same command goes on.", err=True)
        return 130
    except SurefitError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 70
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        click.echo(
            "This is a bug of surefit, not of yours. Please report the lines above.", err=True
        )
        return 70


def _terminated(signum: int, frame: object) -> NoReturn:
    from surefit.errors import TerminatedError

    raise TerminatedError(128 + signum)
