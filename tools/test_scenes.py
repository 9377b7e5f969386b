"""Evaluate a segmenter of scenes on its test set: python tools/test_scenes.py [RUN]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("test", "scenes")
