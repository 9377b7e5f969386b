"""Train your own model: any nn.Module of (num_classes) that maps clouds to logits.

    $ bixt3d train cls --cfg examples/own_model.yaml --trust --run_dir runs/own_model
    ...
    overall accuracy 60.00%, mean class accuracy 60.00%
    ...
    $ python examples/own_model.py runs/own_model
    PointNet with 27,856 parameters
    chair: 60 %

The class and its arguments are settings: `--model.dim 256`. `--trust` allows the config to import this file, which is
in the same folder. Training, resuming, testing, prediction and export work as for bixt3d's own models.
"""

import sys

from torch import Tensor, nn

from bixt3d import Shapes, load_run


class PointNet(nn.Module):
    """The core of PointNet (Qi et al. 2017): an MLP on each point, the maximum over points, an MLP on that.

    Args:
        num_classes: number of classes, given by the data set.
        dim: width.
        dropout: dropout rate before the last layer.
    """

    def __init__(self, num_classes: int, dim: int = 128, dropout: float = 0.0):
        super().__init__()
        self.points = nn.Sequential(nn.Linear(3, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim))
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, num_classes))

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Tensor:
        """Return logits (B, num_classes) of clouds (B, N, 3); point features (B, N, F) are not read."""
        return self.head(self.points(xyz).amax(1))


def main(run: str) -> None:
    """Predict a cloud with the trained model; `trust` allows the file of weights to import this file."""
    predictor = load_run(run, trust=True)
    num_parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    print(f"{type(predictor.model).__name__} with {num_parameters:,} parameters")
    test = Shapes(train_per_class=1, test_per_class=1, num_points=256).load()[1]
    found = predictor.predict(test.xyz[test.class_names.index("chair")])
    print(f"{found.name}: {100 * found.confidence:.0f} %")


if __name__ == "__main__":
    main(sys.argv[1])
