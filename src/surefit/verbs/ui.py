"""`surefit ui`: MLflow's own user interface on the project's store."""

from __future__ import annotations

from pathlib import Path

from surefit.edges import server
from surefit.verbs import workspace
from surefit.verbs.reporter import Reporter


def ui(*, config: str | Path | None = None, host: str = "127.0.0.1", port: int = 5000) -> None:
    """Serve MLflow's UI until interrupted; for a store on a server, say where it is.

    Raises:
        InputError: when the project or its store cannot be found.
    """
    project = workspace.project(data=None, target=None, config=config, overrides=())
    store = workspace.open_store(project)
    reporter = Reporter()
    if store.uri.startswith("http"):
        reporter.say(f"This project's store is a server: open {server.page(store)}")
        return
    reporter.say(
        f"Open http://{host}:{port}/#/experiments/{store.experiment_id}/runs   (Ctrl-C ends it)"
    )
    server.serve(store, host=host, port=port)
