"""A run's artifacts, read by plain MLflow."""

import tempfile
from pathlib import Path

import pandas as pd


def listed(client, run_id, folder=None):
    """The paths of all files of a run."""
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += listed(client, run_id, item.path) if item.is_dir else [item.path]
    return found


def table(client, run_id, path):
    """A Parquet artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_parquet(client.download_artifacts(run_id, path, folder))


def text(client, run_id, path):
    """A text artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_text("utf-8")
