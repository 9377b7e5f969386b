"""Evaluate a classifier on its test set: python tools/test_cls.py [RUN] [--votes 10] [--corrupted]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("test", "cls")
