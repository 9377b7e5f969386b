"""Evaluate a classifier of images on its test set: python tools/test_imgcls.py [RUN]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("test", "imgcls")
