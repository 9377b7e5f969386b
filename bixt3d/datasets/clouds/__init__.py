"""Data sets of clouds."""
