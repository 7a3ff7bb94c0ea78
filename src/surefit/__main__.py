"""`python -m surefit` is `surefit`."""

from surefit.cli import main

if __name__ == "__main__":
    main()
