"""Scenes: clouds of any size with a label for every point."""
