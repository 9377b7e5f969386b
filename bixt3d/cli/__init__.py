"""The command ``bixt3d``; the programs in ``tools/`` call it in a checkout."""
