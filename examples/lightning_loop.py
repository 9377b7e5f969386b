"""Train with Lightning Fabric in your own loop: mixed precision, several devices, checkpoints.

    $ python examples/lightning_loop.py --epochs 2
    epoch 1: loss 2.60
    epoch 2: loss 2.29
    test accuracy 21.3 %, weights in my_model.pt

On GPUs: --devices 2 --accelerator cuda --precision bf16-mixed. A LightningModule works as well: `model` is a plain
nn.Module, and `training_step` the two lines that compute the loss.
"""

import argparse

import torch
from lightning_fabric import Fabric
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from bixt3d import CloudAugment, Draws, Shapes, create_model


def main() -> None:
    """Train, test, and store the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="32-true")
    options = parser.parse_args()
    fabric = Fabric(accelerator=options.accelerator, devices=options.devices, precision=options.precision)
    fabric.launch()
    fabric.seed_everything(0)

    train, test = Shapes(train_per_class=20, test_per_class=5, num_points=256).load()
    model = create_model("shapes_cls", num_classes=len(train.class_names))  # the model part of any config
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05))
    # the random numbers of augmentation depend on the index of a cloud: the same for any number of devices
    augment = CloudAugment(scale=(0.8, 1.25), shift=0.1, shuffle=True)
    data = TensorDataset(train.xyz, train.label, torch.arange(len(train)))
    loader = fabric.setup_dataloaders(DataLoader(data, batch_size=16, shuffle=True))

    for epoch in range(1, options.epochs + 1):
        model.train()
        losses = []
        for xyz, label, index in loader:
            batch = augment({"xyz": xyz, "feats": xyz[..., :0]}, 256, Draws(index, "train", epoch))
            loss = cross_entropy(model(batch["xyz"]), label, label_smoothing=0.1)
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            losses.append(loss.detach())
        fabric.print(f"epoch {epoch}: loss {torch.stack(losses).mean():.2f}")

    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(xyz.to(fabric.device)) for xyz in test.xyz.split(64)]).cpu()
    accuracy = float((logits.argmax(1) == test.label).float().mean())
    fabric.save("my_model.pt", {"model": model})
    fabric.print(f"test accuracy {100 * accuracy:.1f} %, weights in my_model.pt")


if __name__ == "__main__":
    main()
