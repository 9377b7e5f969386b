"""Train a part segmenter of point clouds: python tools/train_partseg.py --cfg cfgs/shapenetpart_encdec.yaml"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("train", "partseg")
