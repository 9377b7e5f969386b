"""Fine-tune a trained run on other classes: which way up does an object lie?

    $ bixt3d train cls --cfg shapes_cls --data.train_per_class 10 --data.test_per_class 2 --data.num_points 256 \\
        --train.epochs 2 --run_dir runs/pretrained
    ...
    $ python examples/fine_tuning.py runs/pretrained
    BixtClassifier of 16 classes, now of 3: upright, lying, upside down
    epoch 1: loss 0.80, test accuracy 70.8 %
    epoch 2: loss 0.50, test accuracy 80.0 %

A run with a config does this by one setting: --train.init takes every weight that fits and lists the others.

    $ bixt3d train cls --cfg shapes_cls --data.train_per_class 2 --data.test_per_class 2 --data.num_points 256 \\
        --train.steps 2 --train.init runs/pretrained --run_dir runs/fine_tuned
    started from runs/pretrained/model.safetensors: 180 of 180 tensors
    ...
"""

import sys

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bixt3d import CloudSet, Shapes, load_run

POSES = ("upright", "lying", "upside down")


def pose(xyz: Tensor, label: Tensor) -> Tensor:
    """Return clouds as they are (0), turned by 90 degrees about x (1), or by 180 degrees (2)."""
    x, y, z = xyz.unbind(2)
    poses = [xyz, torch.stack([x, -z, y], 2), torch.stack([x, -y, -z], 2)]
    return torch.stack(poses)[label, torch.arange(len(xyz))]


def posed(clouds: CloudSet) -> tuple[Tensor, Tensor]:
    """Return the clouds of a set in random poses, and their poses as labels."""
    label = torch.randint(len(POSES), (len(clouds),))
    return pose(clouds.xyz, label), label


def main(run: str) -> None:
    """Replace the head of a trained model, then train all of it, the head faster than the rest."""
    torch.manual_seed(0)
    model = load_run(run).model
    before = model.num_classes
    model.reset_classifier(len(POSES))
    print(f"{type(model).__name__} of {before} classes, now of {len(POSES)}: {', '.join(POSES)}")
    head = list(model.get_classifier().parameters())
    body = [parameter for parameter in model.parameters() if all(parameter is not one for one in head)]
    optimizer = torch.optim.AdamW([{"params": head, "lr": 1e-2}, {"params": body, "lr": 1e-3}])

    train, test = Shapes(train_per_class=8, test_per_class=3, num_points=256, seed=1).load()
    (xyz, label), (test_xyz, test_label) = posed(train), posed(test)
    for epoch in (1, 2):
        model.train()
        losses = []
        for index in torch.randperm(len(xyz)).split(16):
            loss = cross_entropy(model(xyz[index]), label[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.inference_mode():
            right = model(test_xyz).argmax(1) == test_label
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.2f}, test accuracy {100 * right.float().mean():.1f} %")


if __name__ == "__main__":
    main(sys.argv[1])
