"""Train a segmenter of scenes: python tools/train_scenes.py --cfg cfgs/rooms_small.yaml"""

from bixt3d.cli.main import run

if __name__ == "__main__":
    run("train", "scenes")
