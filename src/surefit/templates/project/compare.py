"""Compare all runs on the same rows, then make the same choice by plain MLflow, ready to edit."""

import mlflow

import surefit


def main() -> None:
    comparison = surefit.compare()
    print(comparison)

    # The same selection without surefit: complete runs on the same rows, the best metric first, of
    # equals the newest. The filter is MLflow's own, so it works in MLflow's UI too. Runs of other
    # programs lack these tags: surefit ranks them by their predictions, and never promotes them.
    config = surefit.Config.read("surefit.toml")
    mlflow.set_tracking_uri(config.tracking.uri)
    rows = mlflow.get_run(comparison.run_id).data.tags
    metric = f"metrics.valid_{comparison.metric}"
    direction = "DESC" if comparison.best.score.greater_is_better else "ASC"
    runs = mlflow.search_runs(
        experiment_names=[config.name],
        filter_string="attributes.status = 'FINISHED' and tags.`surefit.status` = 'complete' "
        f"and tags.`surefit.data` = '{rows['surefit.data']}' "
        f"and tags.`surefit.split` = '{rows['surefit.split']}'",
        order_by=[f"{metric} {direction}", "attributes.start_time DESC"],
    )
    runs = runs[runs["tags.surefit.kind"].isin(["train", "tune"])]
    print(runs[["run_id", "tags.mlflow.runName", metric, f"{metric}_low", f"{metric}_high"]])
    print("Best by plain MLflow:", runs.iloc[0]["run_id"])

    # To register it by hand:  mlflow.register_model(f"models:/{model_id}", config.name)
    # To promote it with evidence:  surefit.promote("best")


if __name__ == "__main__":
    main()
