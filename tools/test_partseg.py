"""Evaluate a part segmenter on its test set: python tools/test_partseg.py [RUN] [--votes 10] [--full]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("test", "partseg")
