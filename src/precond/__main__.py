"""Run the command line: ``python -m precond``."""

from precond.cli import main

if __name__ == "__main__":
    main()
