"""``bixt3d download NAME``: download a public data set."""

from argparse import Action
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bixt3d.cli.parser import Parser
from bixt3d.io.named_configs import shipped


class DataSet(NamedTuple):
    """A data set: its folder, the size of the download, and its contents."""

    folder: str
    size: str
    contents: str


PART_TEXTS = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
SEVEN_ZIP = "7z archive: needs pip install 'bixt3d[psb]'"
SETS = {
    "modelnet10": DataSet(
        "modelnet10_ply_hdf5_1024", "0.5 GB", "ModelNet10: 1024 points, sampled locally on the meshes"
    ),
    "modelnet40": DataSet("modelnet40_ply_hdf5_2048", "435 MB", "ModelNet40: 2048 points"),
    "modelnet40_normals": DataSet("modelnet40_normal_resampled", "1.7 GB", "ModelNet40: 10000 points with normals"),
    "modelnet10_meshes": DataSet("ModelNet/ModelNet10", "0.5 GB", "ModelNet10: Princeton's meshes"),
    "modelnet40_meshes": DataSet("ModelNet/ModelNet40", "2.0 GB", "ModelNet40: Princeton's meshes"),
    "psb": DataSet(
        "psb_partseg", SEVEN_ZIP, "Princeton segmentation benchmark: 4096 points, sampled locally on the meshes"
    ),
    "psb_meshes": DataSet("LabeledDB_new", SEVEN_ZIP, "Princeton segmentation benchmark: meshes with labelled faces"),
    "shapenetpart": DataSet(PART_TEXTS, "707 MB", "ShapeNetPart: points with normals and parts"),
    "shapenetpart_hdf5": DataSet(
        "hdf5_data", "346 MB, by hand: its host no longer answers", "ShapeNetPart: 2048 points with parts"
    ),
}
"""The data sets; `datasets.download` has their addresses. Repeated here because help must not import torch."""

TERMS = """All sets are for research, under the terms of their owners; read them first: modelnet.cs.princeton.edu,
segeval.cs.princeton.edu and people.cs.umass.edu/~kalo/papers/LabelMeshes (meshes and labels of psb), shapenet.org."""


class Layouts(Action):
    """Print data/README.md and end."""

    def __call__(self, parser: Any, *given: Any) -> None:
        print((shipped("data") / "README.md").read_text(encoding="utf-8"))
        parser.exit()


def make_parser() -> Parser:
    """Return the parser of the command line."""
    width = max(map(len, SETS))
    lines = [f"  {name:<{width}}  {one.contents} ({one.size})" for name, one in SETS.items()]
    parser = Parser(
        "download",
        "Download a public data set. Interrupted downloads resume; archives are verified, then unpacked.",
        "\n".join(["data sets (size of the download):", *lines, "", TERMS]),
    )
    parser.add_argument("name", metavar="NAME", choices=SETS, help="name of the data set, see below")
    parser.add_argument("--root", type=Path, default=Path("data"), help="parent folder of the data set (default: data)")
    parser.add_argument(
        "--layouts", action=Layouts, nargs=0, help="print data/README.md: the layouts of data sets and of your own data"
    )
    parser.add_argument("--offline", action="store_true", help="download nothing: use archives that are there already")
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Download a data set; returns its folder."""
    arguments = make_parser().parse_args(argv)
    from bixt3d.datasets.download.archives import ARCHIVES, SAMPLED
    from bixt3d.datasets.download.fetch import fetch
    from bixt3d.datasets.download.sampled import make_sampled
    from bixt3d.io.offline import go_offline

    if arguments.offline:
        go_offline()
    name, said = arguments.name, ""
    if name in SAMPLED:
        folder, said = make_sampled(name, arguments.root)
    else:
        folder = fetch(ARCHIVES[name], arguments.root)
    print(f"{name} is ready in {folder}", *([said] if said else []), sep="\n")
    return folder
