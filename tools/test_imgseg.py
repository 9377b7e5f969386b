"""Evaluate a segmenter of images on its test set: python tools/test_imgseg.py [RUN]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("test", "imgseg")
