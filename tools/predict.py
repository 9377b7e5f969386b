"""Say what clouds, meshes and images are, or which parts they have: python tools/predict.py FILE_OR_FOLDER ..."""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("predict")
