"""`python -m svit VERB`: the same as `svit VERB`."""

from svit.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
