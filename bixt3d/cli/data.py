"""``bixt3d data check|convert FOLDER``: look at a folder of clouds before training, or write it as HDF5."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import Parser
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.named_configs import nearest

ACTIONS = {"check": "count, compare and test the files of a folder", "convert": "write the clouds of a folder as HDF5"}
CHECK = """Look at a folder of clouds and meshes: classes, splits, sizes, columns, broken files, duplicates, poses.
Counts the clouds of sets in HDF5, as `bixt3d data convert` writes them. Ends with the command to train with."""
CONVERT = "Write the clouds of a folder as HDF5 files, which load faster and travel as few files."
LAYOUTS = """the folder: train/CLASS/* and test/CLASS/* (or val/), or CLASS/* alone, or labels.csv (file,label[,split])
parts: train/CATEGORY/* and test/CATEGORY/*, or train/* and test/*, with a label for each point in a column
scenes: train/* and test/*, with a label for each point; classes.yaml says what the labels mean (docs/scenes.md)

examples:
  bixt3d data check my_clouds
  bixt3d data check my_parts --parts
  bixt3d data convert my_clouds my_clouds_hdf5"""


def make_parser(action: str = "check") -> Parser:
    """Return the parser of an action."""
    parser = Parser(f"data {action}", CHECK if action == "check" else CONVERT, LAYOUTS)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with the clouds")
    if action == "convert":
        parser.add_argument(
            "out", type=Path, metavar="OUT", help="new folder for the files, or the .h5 file of the training clouds"
        )
        parser.add_argument("--points", type=int, default=2048, help="points of each cloud (default: 2048)")
        parser.add_argument("--features", default="", help="columns to write, such as normal,rgb (default: none)")
        parser.add_argument("--up", choices=("y", "z"), default="z", help="the axis that points up (default: z)")
        parser.add_argument("--skip_broken", action="store_true", help="leave out files that cannot be read")
    parser.add_argument("--parts", action="store_true", help="the points have labels, for part segmentation")
    parser.add_argument("--label", default="", metavar="COLUMN", help="the column of these labels (default: by name)")
    if action == "convert":
        parser.add_argument("--ignore", default="", help="labels of points without a part, such as 0,unlabelled")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run an action; returns the exit code: 0, or 2 if the folder cannot be trained on."""
    argv = list(sys.argv[1:] if argv is None else argv)
    action = argv[0] if argv else "--help"
    if action in ("-h", "--help"):
        width = max(map(len, ACTIONS))
        print("\n".join(["usage: bixt3d data ACTION FOLDER ...", ""]))
        print("\n".join(f"  {name:<{width}}  {text}" for name, text in ACTIONS.items()))
        print(f"\n{LAYOUTS}")
        sys.exit(0)
    if action not in ACTIONS:
        raise InputError(f"there is no action '{printable(action)}'" + nearest(action, ACTIONS))
    arguments = make_parser(action).parse_args(argv[1:])
    if action == "check":
        from bixt3d.cli.data_check import check
        from bixt3d.cli.data_hdf5 import check_hdf5, source_of

        root = arguments.folder.expanduser()
        if source := source_of(root):
            return check_hdf5(root, source)
        return check(root, arguments.parts, arguments.label)
    from bixt3d.cli.data_convert import convert

    convert(arguments)
    return 0
