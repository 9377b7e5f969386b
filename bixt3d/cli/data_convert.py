"""``bixt3d data convert``: write the clouds of a folder as HDF5, in the layouts of ModelNetHDF5 and PartHDF5."""

import json
import shlex
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np

from bixt3d.datasets import CloudFolder, PartFolder
from bixt3d.io.bounds import counted, printable
from bixt3d.io.writing import write_whole
from bixt3d.types import CloudSet, InputError


def convert(arguments: Namespace) -> None:
    """Write train and test clouds, and the lists that name them. Raises InputError if one of the files exists."""
    out = arguments.out.expanduser()
    single = out.suffix.lower() in (".h5", ".hdf5")
    folder = out.parent if single else out
    files = {
        "train": out.name if single else "train.h5",
        "test": f"{out.stem}_test{out.suffix}" if single else "test.h5",
    }
    lists = "{}_hdf5_file_list.txt" if arguments.parts else "{}_files.txt"
    names = ("seg_classes.json", "part_names.json") if arguments.parts else ("shape_names.txt",)
    wanted = [*files.values(), *names, *map(lists.format, files)]
    if there := [name for name in wanted if (folder / name).exists()]:
        raise InputError(f"{printable(folder / there[0])} exists already: name another OUT")
    train, test = clouds_of(arguments)
    for note in train.notes:
        print(printable(note))
    for split, clouds in (("train", train), ("test", test)):
        write_whole(folder / files[split], partial(write_hdf5, clouds=clouds), new=True)
        write_text(folder / lists.format(split), files[split] + "\n")
    if arguments.parts:
        write_text(folder / names[0], json.dumps({name: list(train.class_parts[name]) for name in train.class_names}))
        write_text(folder / names[1], json.dumps(list(train.part_names)))
    else:
        write_text(folder / names[0], "".join(f"{name}\n" for name in train.class_names))
    print(f"wrote {counted(len(train), 'cloud')} to train on and {len(test)} to test on: {printable(folder)}")
    task, config, source = ("partseg", "folder_partseg", "PartHDF5") if arguments.parts else ("cls", "folder_cls", "")
    words = ["bixt3d", "train", task, "--cfg", config, "--data", source or "ModelNetHDF5", "--data.root", str(folder)]
    words += ["--data.up", arguments.up] + (["--data.features", arguments.features] if arguments.features else [])
    print(f"train with: {printable(shlex.join(words))}")


def clouds_of(arguments: Namespace) -> tuple[CloudSet, CloudSet]:
    """Return the training and the test set of the folder."""
    settings = {"root": str(arguments.folder), "features": arguments.features, "up": arguments.up}
    settings |= {"num_points": arguments.points, "stored_points": arguments.points}
    settings["skip_broken"] = arguments.skip_broken
    if arguments.parts:
        return PartFolder(label=arguments.label, ignore=arguments.ignore, **settings).load()
    return CloudFolder(**settings).load()


def write_hdf5(path: Path, clouds: CloudSet) -> None:
    """Write positions, labels, features by name, and the parts of points."""
    import h5py

    arrays = {"data": clouds.xyz, "label": clouds.label}
    for feature, columns in zip(clouds.features.columns, clouds.features.slices(), strict=True):
        arrays[feature.name] = clouds.feats[..., columns]
    if clouds.parts is not None:
        arrays["pid"] = clouds.parts.int()
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=np.asarray(values), compression="gzip")


def write_text(path: Path, text: str) -> None:
    """Write a new text file."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), new=True)
