"""The version of bixt3d, in one place."""

__version__ = "0.1.0"
