"""Train a classifier of point clouds: python tools/train_cls.py --cfg cfgs/modelnet40_grouping.yaml"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("train", "cls")
