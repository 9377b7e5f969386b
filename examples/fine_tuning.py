"""Fine-tune a trained run on other classes: furniture, vehicles, things, from 64 objects.

    $ bixt3d train cls --cfg shapes_cls --data.train_per_class 10 --data.test_per_class 2 --data.num_points 256 \\
        --train.epochs 2 --run_dir runs/pretrained
    ...
    $ python examples/fine_tuning.py runs/pretrained
    BixtClassifier of 16 classes, now of 3: furniture, vehicles, things
    epoch 1: loss 1.03, test accuracy 60.0 %
    ...
    epoch 5: loss 0.53, test accuracy 76.2 %

A run with a config does this by one setting: --train.init takes every weight that fits and lists the others.

    $ bixt3d train cls --cfg shapes_cls --data.train_per_class 2 --data.test_per_class 2 --data.num_points 256 \\
        --train.steps 2 --train.init runs/pretrained --run_dir runs/fine_tuned
    started from runs/pretrained/model.safetensors: 182 of 182 tensors
    ...
"""

import sys

import torch
from torch.nn.functional import cross_entropy

from bixt3d import Shapes, load_run

FURNITURE, VEHICLES = {"bed", "chair", "lamp", "shelf", "sofa", "stool", "table"}, {"airplane", "car", "rocket"}
CLASSES = ("furniture", "vehicles", "things")


def class_of(name: str) -> int:
    """Return the class of a category of `Shapes`."""
    return 0 if name in FURNITURE else 1 if name in VEHICLES else 2


def main(run: str) -> None:
    """Replace the head of a trained model, then train all of it, the head faster than the rest."""
    torch.manual_seed(0)
    model = load_run(run).model
    before = model.num_classes
    model.reset_classifier(len(CLASSES))
    print(f"{type(model).__name__} of {before} classes, now of {len(CLASSES)}: {', '.join(CLASSES)}")
    head = list(model.get_classifier().parameters())
    body = [parameter for parameter in model.parameters() if all(parameter is not one for one in head)]
    optimizer = torch.optim.AdamW([{"params": head, "lr": 1e-2}, {"params": body, "lr": 1e-3}])

    train, test = Shapes(train_per_class=4, test_per_class=5, num_points=256, seed=1).load()
    classes = torch.tensor([class_of(name) for name in train.class_names])
    for epoch in range(1, 6):
        model.train()
        losses = []
        for index in torch.randperm(len(train)).split(16):
            loss = cross_entropy(model(train.xyz[index]), classes[train.label[index]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.inference_mode():
            right = model(test.xyz).argmax(1) == classes[test.label]
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.2f}, test accuracy {100 * right.float().mean():.1f} %")


if __name__ == "__main__":
    main(sys.argv[1])
