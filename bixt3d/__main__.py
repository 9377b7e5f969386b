"""``python -m bixt3d`` is the command ``bixt3d``."""

from bixt3d.cli.main import main

if __name__ == "__main__":
    main()
