"""MLflow tracking: the one place that writes runs and reads them.

Only `MlflowClient` with explicit run ids: the fluent calls share state between threads.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import pandas as pd

from surefit import masking
from surefit.edges import environment, temporary
from surefit.edges.store import Store, first_line
from surefit.errors import InputError, ServiceError, SurefitError, TerminatedError, did_you_mean
from surefit.items import Figure, File, Item, Metric, Param, Table, Tag, Text
from surefit.redaction import redact

BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits a call
PARAM_LENGTH = 6000  # MLflow cuts silently beyond it
TAG_LENGTH = 8000
PAGE = 1000  # runs read at a time
READERS = 4  # artifacts read at a time
CREATE_PAUSES = (0.5, 2.0, 4.0, None)  # seconds after each try to create a run
COMPLETE = "complete"
DIED = "its process died"
ENDED_WELL = f"attributes.status = 'FINISHED' and tags.`surefit.status` = '{COMPLETE}'"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as the store has it."""

    run_id: str
    name: str
    status: str
    started: int  # milliseconds since 1970
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    deleted: bool = False
    artifacts: str = ""  # where they lie, as MLflow has it

    @property
    def kind(self) -> str:
        """`surefit.kind`, or "" for a run of another program."""
        return self.tags.get("surefit.kind", "")

    @property
    def answer(self) -> tuple[Any, list[Any]]:
        """The task and the class labels that its predictions are about."""
        return self.tags["surefit.task"], json.loads(self.tags.get("surefit.classes", "[]"))

    @property
    def complete(self) -> bool:
        """Whether the run reached its last act."""
        return self.status == "FINISHED" and self.tags.get("surefit.status") == COMPLETE


def close_the_dead(store: Store) -> list[RunRecord]:
    """A killed process leaves its runs RUNNING for ever; say what happened instead.

    Gives the runs that were closed.
    """
    closed = []
    for record in search(store, "attributes.status = 'RUNNING'"):
        who = record.tags.get("surefit.owner")
        if who and not environment.owner_alive(who):
            store.client.set_tag(record.run_id, "surefit.reason", DIED)
            store.client.set_terminated(record.run_id, "FAILED")
            closed.append(record)
    return closed


# --- writing ---


@dataclass(frozen=True, kw_only=True)
class Run:
    """An open run; `log` is the only way anything gets into it.

    Attributes:
        written: the keys and paths of all that was logged so far.
    """

    store: Store = field(repr=False)
    run_id: str
    name: str
    written: set[str] = field(default_factory=set, repr=False, compare=False)

    def log(self, items: Iterable[Item]) -> None:
        """Write the items: numbers in batches, files in one upload."""
        now = int(time.time() * 1000)
        batches: dict[str, list[Any]] = {"metrics": [], "params": [], "tags": []}
        with temporary.folder() as folder:
            for item in items:
                self.written.add(_name(item))
                _place(item, batches, Path(folder), now)
            _write_batches(self.store.client, self.run_id, batches)
            if any(Path(folder).iterdir()):
                self.store.client.log_artifacts(self.run_id, folder)


@contextlib.contextmanager
def recording(
    store: Store, name: str, kind: str, *, tags: Mapping[str, str], parent: str | None = None
) -> Iterator[Run]:
    """A run that ends as what happened: FINISHED and complete, FAILED with a reason, or KILLED."""
    run_id = start(store, name, kind, tags=tags, parent=parent)
    with closing(Run(store=store, run_id=run_id, name=name)) as run:
        yield run


@contextlib.contextmanager
def closing(run: Run) -> Iterator[Run]:
    """An open run that ends as what happens in the block."""
    from mlflow.utils.autologging_utils import disable_autologging

    store, run_id = run.store, run.run_id
    try:
        with (
            _told_to_end(),
            disable_autologging(),
        ):  # else our fits would become runs of the user's own
            yield run
    except (KeyboardInterrupt, TerminatedError):
        end(store, run_id, "KILLED", reason="interrupted")
        raise
    except BaseException as error:
        with contextlib.suppress(ServiceError):  # the first error matters more
            end(store, run_id, "FAILED", reason=f"{type(error).__name__}: {first_line(error)}")
        raise
    end(store, run_id, "FINISHED")


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM raises TerminatedError while a run is open, where it would else end the process."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: object) -> NoReturn:
    raise TerminatedError(128 + number)


def start(
    store: Store,
    name: str,
    kind: str,
    *,
    tags: Mapping[str, str],
    parent: str | None = None,
    started: int | None = None,
) -> str:
    """Create a run and give its id; it is RUNNING until `end`. `started`: ms since 1970."""
    owned = {**common_tags(), "surefit.kind": kind, "surefit.key": uuid.uuid4().hex, **tags}
    if parent:
        owned["mlflow.parentRunId"] = parent
    owned = {key: masking.tag(value) for key, value in owned.items()}
    if store.uri.startswith("http"):
        return _created(store, name, owned, started)
    created = store.client.create_run(
        store.experiment_id, start_time=started, run_name=name, tags=owned
    )
    return str(created.info.run_id)


def common_tags() -> dict[str, str]:
    """What every run says of the process that wrote it."""
    return {
        "surefit.owner": environment.owner(),
        "mlflow.user": environment.user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": redact(environment.command_line()),
    }


def _created(store: Store, name: str, tags: dict[str, str], started: int | None) -> str:
    """A run created over HTTP, once: MLflow's client would ask again where only the reply was lost.

    Asked once a try, without retries underneath; where no answer comes, the run is looked up by
    its key before it is asked for again.
    """
    request = {
        "experiment_id": store.experiment_id, "run_name": name, "user_id": tags["mlflow.user"],
        "start_time": started or int(time.time() * 1000),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }  # fmt: skip
    where = f"tags.`surefit.key` = {_quoted(tags['surefit.key'])}"
    for pause in CREATE_PAUSES:
        try:
            return str(store.client.post_once("runs/create", request)["run"]["info"]["run_id"])
        except ServiceError:
            if pause is None:
                raise
            time.sleep(pause)
        for found in search(store, where, limit=1):
            return found.run_id
    raise AssertionError  # the last try returns or raises


def reopen(store: Store, run_id: str) -> bool:
    """Make a run RUNNING again, owned by this process; False when the store has it no more."""
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_run(run_id)
    except MlflowException:
        return False
    if found.info.lifecycle_stage != "active":
        return False
    store.client.update_run(run_id, status="RUNNING")
    store.client.set_tag(run_id, "surefit.owner", environment.owner())
    for tag in ("surefit.reason", "surefit.status"):
        if tag in found.data.tags:
            store.client.delete_tag(run_id, tag)
    return True


def end(
    store: Store, run_id: str, status: str, *, reason: str = "", ended: int | None = None
) -> None:
    """Close a run; its completeness is the very last thing written before."""
    key, value = (
        ("surefit.reason", redact(reason)[:TAG_LENGTH]) if reason else ("surefit.status", COMPLETE)
    )
    store.client.set_tag(run_id, key, value)
    store.client.set_terminated(run_id, status, end_time=ended)


def complete(store: Store, run_id: str) -> None:
    """Close a run whose process died after its work was done, as what it was: complete."""
    found = store.client.get_run(run_id)
    if "surefit.reason" in found.data.tags:
        store.client.delete_tag(run_id, "surefit.reason")
    end(store, run_id, "FINISHED")


def _name(item: Item) -> str:
    """The key or path under which an item is found in its run."""
    if isinstance(item, Figure):
        return f"plots/{item.name}.png"
    return item.key if isinstance(item, Metric | Param | Tag) else item.path


def _place(item: Item, batches: dict[str, list[Any]], folder: Path, now: int) -> None:
    from mlflow.entities import Metric as MlflowMetric
    from mlflow.entities import Param as MlflowParam
    from mlflow.entities import RunTag

    if isinstance(item, Metric):
        if abs(item.value) < float("inf"):  # MLflow would store inf as 1.8e308, and rank it first
            batches["metrics"].append(MlflowMetric(item.key, float(item.value), now, item.step))
    elif isinstance(item, Param):
        batches["params"].append(MlflowParam(item.key, param_text(item.key, item.value)))
    elif isinstance(item, Tag):
        batches["tags"].append(RunTag(item.key, _short(masking.tag(item.value), TAG_LENGTH)))
    elif isinstance(item, Table):
        write_table(item.frame, _inside(folder, item.path))
    elif isinstance(item, Text):
        _inside(folder, item.path).write_text(masking.record(item.path, item.text), "utf-8")
    elif isinstance(item, File):
        shutil.copyfile(item.source, _inside(folder, item.path))
    else:
        figure: Figure = item
        _inside(folder, f"plots/{figure.name}.png").write_bytes(figure.png)
        write_table(figure.numbers, _inside(folder, f"plots/{figure.name}.csv"))


def param_text(key: str, value: Any) -> str:
    """A parameter's value as MLflow keeps it: text, secrets taken out, and never cut silently."""
    return _short(masking.param(key, value), PARAM_LENGTH)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 30] + " … (whole in config.toml)"


def _inside(folder: Path, path: str) -> Path:
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{path} leads out of the run")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def write_table(frame: pd.DataFrame, file: Path) -> None:
    """Parquet with page checksums, or CSV, by the file's ending."""
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False, write_page_checksum=True)
    else:
        frame.to_csv(file, index=False)


def _write_batches(client: Any, run_id: str, batches: dict[str, list[Any]]) -> None:
    while any(batches.values()):
        chunk = {kind: values[: BATCH[kind]] for kind, values in batches.items()}
        client.log_batch(run_id, **chunk)
        batches = {kind: values[BATCH[kind] :] for kind, values in batches.items()}


def log_dataset(
    run: Run, *, name: str, digest: str, source: str, schema: str, profile: str
) -> None:
    """Name the data in MLflow's own terms, under our digest (its first 32 hex digits)."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=name, digest=digest[:32], source_type="local",
        source=json.dumps({"uri": source}), schema=schema, profile=profile,
    )  # fmt: skip
    tagged = DatasetInput(entity, tags=[InputTag("mlflow.data.context", "training")])
    run.store.client.log_inputs(run.run_id, datasets=[tagged])


def log_model_input(run: Run, model_id: str) -> None:
    """Name the logged model that the run is about, so that MLflow shows the two together."""
    from mlflow.entities import LoggedModelInput

    run.store.client.log_inputs(run.run_id, models=[LoggedModelInput(model_id=model_id)])


# --- reading ---


def search(
    store: Store,
    where: str = "",
    *,
    limit: int | None = None,
    order: str = "attributes.start_time DESC",
    deleted: bool = False,
) -> Iterator[RunRecord]:
    """The experiment's runs that match MLflow's filter, newest first, read page by page.

    A whole run takes MLflow about a millisecond: filter on the server, and give a limit.

    Args:
        store: the store.
        where: MLflow's filter.
        limit: at most so many.
        order: MLflow's order.
        deleted: the deleted runs, and no others.

    Raises:
        InputError: when MLflow does not understand the filter.
    """
    token, given = None, 0
    while True:
        try:
            page = store.client.search_runs(
                [store.experiment_id], where, max_results=min(limit or PAGE, PAGE),
                order_by=[order], page_token=token, run_view_type=2 if deleted else 1,
            )  # fmt: skip
        except ServiceError as error:
            if where and refuses(error):
                raise InputError(f"MLflow does not understand --where: {error.what}") from None
            raise
        for run in page:
            yield _record(run)
            given += 1
            if limit and given >= limit:
                return
        token = page.token
        if not token:
            return


def refuses(error: BaseException) -> bool:
    """Whether MLflow answered that something is not allowed, which it will say again."""
    told = repr(error.__cause__) + str(getattr(error.__cause__, "error_code", ""))
    return "INVALID_PARAMETER_VALUE" in told


def _record(run: Any) -> RunRecord:
    return RunRecord(
        run_id=run.info.run_id, name=run.info.run_name or "", status=run.info.status,
        started=run.info.start_time or 0, params=dict(run.data.params),
        metrics=dict(run.data.metrics), tags=dict(run.data.tags),
        deleted=run.info.lifecycle_stage != "active", artifacts=run.info.artifact_uri or "",
    )  # fmt: skip


def find(store: Store, reference: str) -> RunRecord:
    """The run of that id, of a beginning of its id (4 characters or more), or of that name.

    "last" is the newest complete training run or search.

    Raises:
        InputError: when none or several match.
    """
    from mlflow.exceptions import MlflowException

    if re.fullmatch(r"[0-9a-f]{32}", reference):
        try:
            return _record(store.client.get_run(reference))
        except MlflowException:
            raise InputError(f"There is no run {reference} in {store.uri}.") from None
    if reference == "last":
        wanted = _last(store)
    else:
        wanted = list(search(store, f"attributes.run_name = {_quoted(reference)}", limit=6))
        if not wanted and re.fullmatch(r"[0-9a-f]{4,}", reference):
            wanted = list(search(store, f"attributes.run_id LIKE '{reference}%'", limit=6))
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        raise InputError(
            f'There is no run "{reference}"; {_advice(store, reference)}',
            "surefit compare lists the runs",
        )
    ids = ", ".join(r.run_id[:8] for r in wanted[:5])
    raise InputError(
        f'Several runs are called "{reference}": {ids}{", …" if len(wanted) > 5 else "."}',
        "give one of these ids",
    )


def _last(store: Store) -> list[RunRecord]:
    """The newest complete training run or search; none where there is none."""
    newest = [
        record
        for kind in ("train", "tune")
        for record in search(store, f"tags.`surefit.kind` = '{kind}' and {ENDED_WELL}", limit=1)
    ]
    return sorted(newest, key=lambda r: -r.started)[:1]


def _advice(store: Store, reference: str) -> str:
    """The nearest name among the newest runs."""
    names = {
        record.name
        for kind in ("train", "tune")
        for record in search(store, f"tags.`surefit.kind` = '{kind}'", limit=100)
    }
    return did_you_mean(reference, names) if names else "the project has no runs yet"


def _quoted(text: str) -> str:
    """A text in MLflow's grammar, which has no escapes: with both kinds of quotes it has no form.

    Raises:
        InputError: then.
    """
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise InputError(f"MLflow cannot search for the name {text!r}.", "give the run's id")


def read_table(store: Store, run_id: str, path: str) -> pd.DataFrame | None:
    """A run's Parquet (checksums verified) or CSV artifact; None where the run has none.

    Raises:
        ServiceError: when it is damaged.
    """
    with temporary.folder() as folder:
        file = _download(store, run_id, path, folder)
        return None if file is None else _table_in(file, run_id, path)


def _table_in(file: Path, run_id: str, path: str) -> pd.DataFrame:
    try:
        if file.suffix == ".csv":
            return pd.read_csv(file)
        return pd.read_parquet(file, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise ServiceError(f"{path} of run {run_id} is damaged: {first_line(error)}") from error


def read_first(
    store: Store, records: Sequence[RunRecord], paths: Sequence[str]
) -> list[pd.DataFrame | SurefitError | None]:
    """For each run the first of its artifacts `paths`, as `read_table`; several runs at a time.

    A table that cannot be read stands as its error. Where the artifacts lie on this machine MLflow
    is not asked, which would look up the run twice a file.
    """

    def one(record: RunRecord, path: str) -> pd.DataFrame | None:
        folder = local_folder(record.artifacts)
        if folder is None or not folder.is_dir():
            return read_table(store, record.run_id, path)
        file = folder / path
        return _table_in(file, record.run_id, path) if file.is_file() else None

    def read(record: RunRecord) -> pd.DataFrame | SurefitError | None:
        try:
            return next((t for path in paths if (t := one(record, path)) is not None), None)
        except SurefitError as error:
            return error

    with ThreadPoolExecutor(min(READERS, max(1, len(records)))) as readers:
        return list(readers.map(read, records))


def local_folder(location: str) -> Path | None:
    """The folder of an artifacts' location on this machine's disk, None for one elsewhere."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if location and not parts.scheme else None


def read_text(store: Store, run_id: str, path: str) -> str | None:
    """A run's text artifact; None where the run has none."""
    with temporary.folder() as folder:
        file = _download(store, run_id, path, folder)
        return file.read_text("utf-8") if file else None


def listed(store: Store, record: RunRecord, folder: str) -> list[str]:
    """The paths of a run's artifacts in a folder, those below it included."""
    found: list[str] = []
    for entry in store.client.list_artifacts(record.run_id, folder):
        found += listed(store, record, entry.path) if entry.is_dir else [entry.path]
    return found


def _download(store: Store, run_id: str, path: str, folder: str) -> Path | None:
    parent = path.rpartition("/")[0]
    listed = store.client.list_artifacts(run_id, parent or None)
    if not any(f.path == path for f in listed):
        return None
    return Path(store.client.download_artifacts(run_id, path, folder))
