"""Search hyperparameters: one nested MLflow run a trial. Run it again and it goes on."""

import sys

import surefit


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    result = surefit.tune(trials=trials)
    print(result)
    print("Best parameters:", dict(result.best.params))


if __name__ == "__main__":
    main()
