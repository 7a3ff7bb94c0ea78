"""Train one candidate: an MLflow run with its parameters, curves, predictions and model.

Everything here is yours to edit. `surefit train` does the same from the command line.
"""

import argparse

import surefit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    families = "lightgbm, hist, xgboost, catboost, forest, linear, mlp or dummy"
    parser.add_argument("--family", default="lightgbm", help=families)
    parser.add_argument("--register", action="store_true", help="make the model a version")
    arguments = parser.parse_args()

    result = surefit.train(set={"model.family": arguments.family}, register=arguments.register)
    print(result)


if __name__ == "__main__":
    main()
