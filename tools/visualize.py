"""Draw what a run predicts: python tools/visualize.py [RUN] [--worst] [--attention] [--html]"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("visualize")
