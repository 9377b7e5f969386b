"""Train with the DataLoader and transforms of PyTorch Geometric, and predict a Batch of graphs.

    $ python examples/pyg_loader.py
    epoch 1: loss 2.48
    epoch 2: loss 2.15
    4 graphs of 100, 200, 300, 400 points: bed, chair, chair, sofa

Any PyG data set of `Data` with `pos` (and `y`) takes the place of `graphs`: ModelNet, ShapeNet, or your own.
"""

import torch
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Center, Compose, FixedPoints, RandomJitter, RandomScale

from bixt3d import BixtClassifier, BixtEncoder, PointTokenizer, Predictor, Shapes, to_pyg


class UnitSphere:
    """Scale a centred cloud until its farthest point is at distance 1 (NormalizeScale: until it fills a cube)."""

    def __call__(self, data: Data) -> Data:
        data.pos = data.pos / data.pos.norm(dim=1).max()
        return data


def dense(batch: Batch) -> torch.Tensor:
    """Return the clouds (B, N, 3) of a batch whose graphs all have as many points."""
    return batch.pos.view(batch.num_graphs, -1, 3)


def main() -> None:
    """Train for two epochs, then predict graphs of different sizes."""
    torch.manual_seed(0)
    train, test = Shapes(train_per_class=20, test_per_class=5, num_points=512).load()
    before = Compose([Center(), UnitSphere()])
    graphs = [before(graph) for graph in to_pyg(train)]  # Data(pos=[512, 3], y=[1])
    augment = Compose([FixedPoints(256, replace=False), RandomScale((0.8, 1.25)), RandomJitter(0.01)])

    encoder = BixtEncoder(dim=48, depth=2, num_heads=2, num_latents=16)
    model = BixtClassifier(len(train.class_names), PointTokenizer(48, temperature=100.0, scale=12.566), encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in (1, 2):
        losses = []
        augmented = [augment(graph) for graph in graphs]  # a PyG data set does this itself: transform=augment
        for batch in DataLoader(augmented, batch_size=16, shuffle=True):
            loss = cross_entropy(model(dense(batch)), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.2f}")

    # predictors take a Batch of graphs of any size: they centre, scale and sample each
    predictor = Predictor(model, train.class_names, num_points=256)
    sizes = [100, 200, 300, 400]
    some = Batch.from_data_list([Data(pos=xyz[:size]) for xyz, size in zip(test.xyz[::20], sizes, strict=True)])
    names = [found.name for found in predictor.predict(some)]
    print(f"{len(names)} graphs of {', '.join(map(str, sizes))} points: {', '.join(names)}")


if __name__ == "__main__":
    main()
