"""Evaluate a run from its saved predictions: metrics with intervals, plots and a report."""

import sys

import surefit


def main() -> None:
    subject = sys.argv[1] if len(sys.argv) > 1 else "last"
    result = surefit.evaluate(subject)
    print(result)

    # Every number is at hand, each with its 95 % interval:
    for score in result.scores:
        print(f"{score.metric:20} {score.value:8.4f}   from {score.low:.4f} to {score.high:.4f}")


if __name__ == "__main__":
    main()
