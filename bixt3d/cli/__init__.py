"""The command line: ``bixt3d`` and the programs in ``tools/``."""
