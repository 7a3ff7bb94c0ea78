"""Compare all runs on the same rows, then make the same choice by plain MLflow, ready to edit."""

import mlflow

import surefit


def main() -> None:
    comparison = surefit.compare()
    print(comparison)

    # The same selection without surefit: search runs, sort by a metric, take the best.
    # The names are MLflow's own fields, so the same filter works in MLflow's UI.
    config = surefit.Config.read("surefit.toml")
    mlflow.set_tracking_uri(config.tracking.uri)
    runs = mlflow.search_runs(
        experiment_names=[config.name],
        filter_string="attributes.status = 'FINISHED' and tags.`surefit.status` = 'complete'",
    )
    runs = runs[runs["tags.surefit.kind"].isin(["train", "tune"])]
    metric = f"metrics.valid_{comparison.metric}"
    bigger = comparison.best.score.greater_is_better
    runs = runs.sort_values(metric, ascending=not bigger)
    print(runs[["run_id", "tags.mlflow.runName", metric, f"{metric}_low", f"{metric}_high"]])
    print("Best by plain MLflow:", runs.iloc[0]["run_id"])

    # To register it by hand:  mlflow.register_model(f"models:/{model_id}", config.name)
    # To promote it with evidence:  surefit.promote("best")


if __name__ == "__main__":
    main()
