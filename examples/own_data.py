"""Train on your own files: a data set class for folders of clouds or meshes, train/CLASS/*.ply and test/CLASS/*.ply.

    $ python examples/own_data.py my_clouds
    wrote 36 files to my_clouds, such as train/bottle/0.ply with 753 points
    $ bixt3d train cls --cfg examples/own_data.yaml --trust --run_dir runs/own_data
    ...
    overall accuracy 100.00%, mean class accuracy 100.00%
    ...
    $ bixt3d predict my_clouds/test/bottle/0.ply --checkpoint runs/own_data
    my_clouds/test/bottle/0.ply: 677 points
      note: a random 256 of them seen
      note: y taken for up
        89.5%  bottle
         6.1%  airplane
         4.4%  chair

The first command only writes a small example folder. The arguments of the class are settings:
`--data.root FOLDER --data.up z`. `--trust` allows the config to import this file.
"""

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bixt3d import CloudSet, CloudSource, InputError, normalize_clouds, read_file


class PlyFolder(CloudSource):
    """Clouds and meshes in files: ROOT/train/CLASS/*.ply and ROOT/test/CLASS/*.ply.

    Args:
        root: the folder.
        num_points: points of each cloud that the model sees.
        stored_points: points kept of each file, a random choice; training may draw from all of them.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        up: the axis that points up in the files.
    """

    def __init__(
        self,
        root: str,
        num_points: int = 1024,
        stored_points: int = 2048,
        val_fraction: float = 0.0,
        up: Literal["y", "z"] = "y",
    ):
        super().__init__(num_points, val_fraction=val_fraction)
        self.root, self.stored_points, self.up = Path(root), stored_points, up

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set; classes are named by the folders in train/."""
        names = sorted(path.name for path in self.root.glob("train/*") if path.is_dir())
        if not names:
            raise InputError(f"there is no folder {self.root}/train/CLASS: python examples/own_data.py writes some")
        return self.read("train", names), self.read("test", names)

    def read(self, split: str, names: list[str]) -> CloudSet:
        """Return the clouds of one split."""
        files = sorted(self.root.glob(f"{split}/*/*.ply"))
        classes = [path.parent.name for path in files]
        if not files or set(classes) - set(names):
            raise InputError(f"{self.root}/{split} must contain files CLASS/*.ply of the classes {', '.join(names)}")
        xyz = torch.stack([self.points(path) for path in files])
        return CloudSet(xyz, xyz[..., :0], torch.tensor([names.index(name) for name in classes]), tuple(names))

    def points(self, path: Path) -> torch.Tensor:
        """Return ``stored_points`` points of a file, in random order, centred and in the unit sphere."""
        (cloud,) = read_file(path, num_points=self.stored_points)
        too_few = len(cloud) < self.stored_points
        index = np.random.default_rng(0).choice(len(cloud), self.stored_points, replace=too_few)
        return normalize_clouds(torch.from_numpy(cloud.xyz[index])[None], str(path))[0].float()


def write_some(root: Path) -> None:
    """Write a few clouds of bixt3d's built-in objects, of different sizes, as PLY files."""
    import trimesh

    from bixt3d.datasets.shapes.shapes import make_shape

    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 2)):
        for name in ("airplane", "bottle", "chair"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                xyz = make_shape(name, int(rng.integers(500, 1500)), rng)[0]
                trimesh.PointCloud(0.3 * xyz + 5).export(root / split / name / f"{number}.ply")
    num_points = len(read_file(root / "train/bottle/0.ply")[0])
    print(f"wrote 36 files to {root}, such as train/bottle/0.ply with {num_points} points")


if __name__ == "__main__":
    write_some(Path(sys.argv[1]))
