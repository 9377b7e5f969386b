"""Train a segmenter of images: python tools/train_imgseg.py --cfg cfgs/camvid.yaml"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("train", "imgseg")
