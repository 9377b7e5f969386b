"""Train a classifier of images: python tools/train_imgcls.py --cfg cfgs/cifar10.yaml"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("train", "imgcls")
