"""Export a trained run for other programs: python tools/export.py RUN [--format torch|onnx] [--out FILE]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("export")
