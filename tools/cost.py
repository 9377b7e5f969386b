"""Count what models cost: python tools/cost.py --table all, or --cfg FILE"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("cost")
