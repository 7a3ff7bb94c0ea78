"""Over HTTP: the whole loop on MLflow's own server, one that dies, one that comes back, serving."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

import conftest
import surefit
from proxy import Proxy
from surefit.edges import registry
from surefit.edges import store as stores
from surefit.errors import ServiceError
from test_interrupted import mirrored_trials, wait_until
from test_tune import table

PLAIN = {"model.family": "linear", "split.folds": 3}


def on_server(folder, uri, *, name="iris"):
    """A project in the folder on the server's store."""
    (folder.path / "surefit.toml").write_text(
        f'name = "{name}"\n[data]\npath = "sklearn:{name}"\ntarget = "target"\n'
        f'[split]\nfolds = 3\n[model]\nfamily = "linear"\n[tracking]\nuri = "{uri}"\n'
    )
    return folder


def test_the_whole_loop_works_on_a_server(server, folder, tmp_path):
    """Train, evaluate, tune, compare, promote over HTTP; plain MLflow loads what was promoted."""
    import mlflow

    on_server(folder, server.uri)
    folder.train()
    folder.train(set={"model.family": "dummy"})
    assert folder.evaluate(test=True).look == 1
    tuned = folder.tune(trials=5)
    assert len(tuned.trials) == 5
    board = folder.compare()
    assert {s.kind for s in board.standings} == {"train", "tune"}
    decision = folder.promote()
    assert decision.verdict == "PROMOTED", decision
    assert folder.promote().moved is False
    client = mlflow.MlflowClient(server.uri, registry_uri=server.uri)
    version = client.get_model_version_by_alias("iris", "production")
    assert version.run_id == board.best.run_id
    found = client.search_runs([client.get_experiment_by_name("iris").experiment_id])
    assert {r.info.status for r in found} == {"FINISHED"}
    script = (
        "import sys; sys.modules['surefit'] = None\n"
        "import mlflow; mlflow.set_tracking_uri(sys.argv[1])\n"
        "import sklearn.datasets\n"
        "X = sklearn.datasets.load_iris(as_frame=True).data\n"
        "model = mlflow.pyfunc.load_model('models:/iris@production')\n"
        "print((model.predict(X)['prediction'] != '').sum())\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, server.uri], text=True,
                          capture_output=True, cwd=tmp_path)  # fmt: skip
    assert done.stdout.strip() == "150", done.stderr
    assert not (folder.path / "mlruns").exists()


def test_the_same_search_gives_the_same_table_on_a_server_and_in_a_file(server, folder, searched):
    """Where it is recorded decides nothing."""
    on_server(folder, server.uri, name="wine")
    local = searched.tune(trials=12, set=PLAIN)
    remote = folder.tune(trials=12)
    assert table(local) == table(remote)


def test_only_mlflow_itself_says_that_there_is_no_alias(server, folder):
    """No model and no alias are None, in a file and over HTTP; a proxy's 404 is an error."""

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404, "Not Found")

        def log_message(self, *_):
            pass

    for uri in (server.uri, folder.uri):
        store = stores.connect(uri, folder.path, "nobody")
        assert registry.by_alias(store, "production") is None
        store.client.create_registered_model("nobody")
        assert registry.by_alias(store, "production") is None
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        uri = f"http://127.0.0.1:{proxy.server_port}"
        away = dataclasses.replace(store, client=stores._client(uri), uri=uri)
        with pytest.raises(ServiceError, match="404"):
            registry.by_alias(away, "production")
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.fixture(scope="session")
def dead_port():
    """A port where nobody listens."""
    return conftest.free_port()


def odd(trial):
    """A space some of whose names MLflow refuses."""
    kind = trial.suggest_categorical("kind", ["@", "."])
    trial.suggest_float(f"x{kind}1", 0.0, 1.0)


def test_a_trial_that_mlflow_refuses_keeps_no_other_from_its_place(server, folder, capsys):
    """It counts, its run says why it is not recorded, and the rest of the search is in MLflow."""
    result = surefit.tune(
        lambda params, context: 1.0, odd, trials=8, method="random", name="refusing",
        set={"tracking.uri": server.uri},
    )  # fmt: skip
    refused = [t for t in result.trials if t.params["kind"] == "@"]
    assert 0 < len(refused) < len(result.trials) == 8
    said = capsys.readouterr().err
    assert f"MLflow refused to record {'them' if len(refused) > 1 else 'it'}: " in said
    assert "x@1" in said
    import mlflow

    client = mlflow.MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("refusing").experiment_id
    runs = client.search_runs([experiment], "tags.`surefit.kind` = 'trial'")
    assert sum(r.data.tags.get("surefit.status") == "complete" for r in runs) == 8 - len(refused)
    assert {r.info.status for r in runs} == {"FINISHED", "FAILED"}


def test_a_dead_server_is_told_within_seconds(folder, dead_port):
    """Exit code 3 and one message, before anything is computed; MLflow would try for minutes."""
    on_server(folder, f"http://127.0.0.1:{dead_port}")
    for command in (["train"], ["evaluate", "last"], ["tune"], ["compare"], ["promote"]):
        started = time.monotonic()
        ended = folder.command(*command, "-q")
        assert ended.code == 3, ended
        assert "does not answer" in ended.err
        assert "Traceback" not in ended.err
        assert time.monotonic() - started < 15


def test_a_dead_database_is_told_within_seconds(folder, dead_port):
    """Exit code 3 and its place without the password, whatever driver would have tried."""
    on_server(folder, f"postgresql+psycopg://me:hidden@127.0.0.1:{dead_port}/runs")
    ended = folder.command("train", "-q")
    assert ended.code == 3, ended
    assert f"The database at 127.0.0.1:{dead_port} does not answer" in ended.err
    assert "hidden" not in ended.err


def test_a_server_that_never_answers_is_told_too(folder):
    """A port that takes the connection and says nothing costs ten seconds, not minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        on_server(folder, f"http://user:hidden@127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        ended = folder.command("compare", "-q")
        assert ended.code == 3
        assert time.monotonic() - started < 25
        assert "hidden" not in ended.err


def test_a_store_that_goes_away_in_mid_search_loses_nothing(folder, tmp_path, pristine, searched):
    """The search goes on while the server is down, and all its trials are there at the end."""
    import mlflow

    own = conftest.Server(folder=tmp_path / "own", port=conftest.free_port())
    own.folder.mkdir()
    shutil.copy(pristine, own.folder / "server.db")
    own.start()
    try:
        on_server(folder, own.uri, name="wine")
        process = folder.started("tune", "--trials", 12, "-q")
        wait_until(lambda: mirrored_trials(folder) >= 2, process)
        own.stop()
        time.sleep(3)
        own.start()
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        client = mlflow.MlflowClient(own.uri)
        found = client.search_runs([client.get_experiment_by_name("wine").experiment_id])
        trials = [r for r in found if r.data.tags["surefit.kind"] == "trial"]
        assert sorted(int(r.data.tags["surefit.trial"]) for r in trials) == list(range(12))
        assert {r.info.status for r in found} == {"FINISHED"}
        assert table(folder.tune(trials=12)) == table(searched.tune(trials=12, set=PLAIN))
    finally:
        own.stop()


def test_a_lost_reply_makes_no_second_run(server, folder, searched):
    """Creates whose reply is lost, or that the server gets late: one run a trial all the same."""
    seen = {}

    def number(request):
        found = re.search(rb'"surefit.trial", "value": "(\d+)"', request.body)
        return int(found[1]) if request.path.endswith("/runs/create") and found else None

    def fate(request):
        trial = number(request)
        seen[trial] = seen.get(trial, 0) + 1
        if trial is None or seen[trial] > 1:
            return ""
        return {2: "lost", 5: "late", 7: "lost"}.get(trial, "")

    lossy = Proxy(server.port, fate, number)
    try:
        on_server(folder, f"http://127.0.0.1:{lossy.port}", name="lossy")
        result = folder.tune("sklearn:wine", trials=12, set={"name": "lossy"})
    finally:
        lossy.close()
    assert (lossy.n_lost, lossy.n_late) == (2, 1)
    import mlflow

    client = mlflow.MlflowClient(server.uri)
    found = client.search_runs([client.get_experiment_by_name("lossy").experiment_id])
    trials = [r for r in found if r.data.tags["surefit.kind"] == "trial"]
    assert sorted(int(r.data.tags["surefit.trial"]) for r in trials) == list(range(12))
    assert {r.info.status for r in found} == {"FINISHED"}
    ends = {r.data.tags["surefit.state"]: r.data.tags for r in trials}
    assert ends["COMPLETE"]["surefit.status"] == "complete"
    assert set(ends) <= {"COMPLETE", "PRUNED"}
    assert table(result) == table(searched.tune(trials=12, set=PLAIN))


def test_a_promoted_model_is_served_by_mlflow_with_the_same_numbers(folder, tmp_path):
    """mlflow models serve answers over HTTP as stored, in a process that cannot import surefit."""
    made = folder.train("sklearn:breast_cancer", target="target", set=PLAIN)
    assert folder.promote(made.run_id).moved
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text("import sys\nsys.modules['surefit'] = None\n")
    port = conftest.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", "-m",
         "models:/breast_cancer@production", "--env-manager", "local", "--port", str(port)],
        env={**os.environ, "PATH": conftest.with_environment_bin(), "PYTHONPATH": str(blocked),
             "MLFLOW_TRACKING_URI": folder.uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        conftest.wait_for(f"http://127.0.0.1:{port}/ping", process)
        from surefit.edges.sources import load

        stored = pd.read_parquet(
            folder.client.download_artifacts(made.run_id, "predictions/test.parquet", str(tmp_path))
        )
        rows = load("sklearn:breast_cancer", folder.path).drop(columns="target")
        rows = rows.loc[stored["row_id"]]
        asked = {"dataframe_split": rows.to_dict(orient="split", index=False)}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", headers={"Content-Type": "application/json"},
            data=json.dumps(asked).encode(),
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as reply:
            answered = json.load(reply)["predictions"]
        pd.testing.assert_frame_equal(
            pd.DataFrame(answered), stored.drop(columns="row_id"), check_dtype=False, rtol=1e-9
        )
    finally:
        conftest.end_group(process)
