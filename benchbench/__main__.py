"""``python -m benchbench`` is ``benchbench``."""

from benchbench.cli.main import main

if __name__ == "__main__":
    main()
