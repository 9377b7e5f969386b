"""The public data sets: URLs and checksums of their archives, and advice when one is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bixt3d.errors import InputError


@dataclass(frozen=True)
class Fingerprint:
    """Checksum of a file, ``md5:...`` or ``sha256:...``, and its size in bytes if that is published too."""

    checksum: str
    size: int | None = None


@dataclass(frozen=True)
class Archive:
    """An archive (zip, tar or 7z) to download, and the folder that it is unpacked to.

    Args:
        file: name of the archive.
        urls: mirrors, in the order in which they are tried.
        folder: folder below the root of the data.
        contains: a path inside ``folder`` that identifies the data.
        known: accepted files; empty if no checksum is published: then that of the first download is kept, and later
            ones must match it.
        members: md5 of files inside.
    """

    file: str
    urls: tuple[str, ...]
    folder: str
    contains: str
    known: tuple[Fingerprint, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)


HUGGINGFACE = "https://huggingface.co/datasets"
POINTMLP_RELEASES = "https://github.com/ma-xu/pointMLP-pytorch/releases/download"
NORMALS = "modelnet40_normal_resampled"
STANFORD = "https://shapenet.cs.stanford.edu/media"
PART_ZIP = "shapenetcore_partanno_segmentation_benchmark_v0_normal.zip"
ARCHIVES = {
    "modelnet40": Archive(
        file="modelnet40_ply_hdf5_2048.zip",
        urls=(
            f"{HUGGINGFACE}/Msun/modelnet40/resolve/main/modelnet40_ply_hdf5_2048.zip",
            f"{POINTMLP_RELEASES}/Modenet40_dataset/modelnet40_ply_hdf5_2048.zip",
        ),
        folder="modelnet40_ply_hdf5_2048",
        contains="train_files.txt",
        known=(Fingerprint("md5:c9ab8e6dfb16f67afdab25e155c79e59"),),
        members={
            "ply_data_train0.h5": "3176385ffc31a7b6b5af22191fd920d1",
            "ply_data_train1.h5": "e3f613fb500559403b34925112754dc4",
            "ply_data_train2.h5": "0c56e233a090ff87c3049d4ce08e7d8b",
            "ply_data_train3.h5": "9d2af465adfa33a3285c369f3ca66c45",
            "ply_data_train4.h5": "dff38de489b2c41bfaeded86c2208984",
            "ply_data_test0.h5": "e9732e6d83b09e79e9a7617df058adee",
            "ply_data_test1.h5": "aba4b12a67c34391cc3c015a6f08ed4b",
        },
    ),
    "modelnet40_normals": Archive(
        file=f"{NORMALS}.tar.gz",
        urls=(f"{HUGGINGFACE}/Pointcept/{NORMALS}-compressed/resolve/main/{NORMALS}.tar.gz",),
        folder=NORMALS,
        contains="airplane/airplane_0001.txt",
        known=(Fingerprint("md5:46ed374f8ef5f7504ec4870298772ac2"),),
    ),
    "modelnet10_meshes": Archive(
        file="ModelNet10.zip",
        urls=("https://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",),
        folder="ModelNet/ModelNet10",
        contains="bathtub/train",
    ),
    "psb_meshes": Archive(
        file="labeledDb.7z",
        urls=("https://people.cs.umass.edu/~kalo/papers/LabelMeshes/labeledDb.7z",),
        folder="LabeledDB_new",
        contains="Airplane/61.off",
    ),
    "modelnet40_meshes": Archive(
        file="ModelNet40.zip",
        urls=("https://modelnet.cs.princeton.edu/ModelNet40.zip", "http://modelnet.cs.princeton.edu/ModelNet40.zip"),
        folder="ModelNet/ModelNet40",
        contains="airplane/train",
        known=(Fingerprint("md5:79bcee68fdf02f581938ba15f4cdca51", 2_039_180_837),),
    ),
    "shapenetpart": Archive(
        file=PART_ZIP,
        urls=(
            f"{HUGGINGFACE}/cminst/ShapeNet/resolve/main/{PART_ZIP}",
            f"{HUGGINGFACE}/wangps/shapenet_segmentation/resolve/main/{PART_ZIP}",
            f"https://omnomnom.vision.rwth-aachen.de/data/point2vec/data/{PART_ZIP}",
            f"{HUGGINGFACE}/ShapeSplats/sharing/resolve/main/{PART_ZIP}",
        ),
        folder="shapenetcore_partanno_segmentation_benchmark_v0_normal",
        contains="synsetoffset2category.txt",
        known=(
            Fingerprint("sha256:0e26411700bae2da38ee8ecc719ba4db2e6e0133486e258665952ad5dfced0fe", 706_988_960),
            Fingerprint("sha256:5d08db8ccf9c82132f790cc0789bb073df8e3e88126b8c032434234d40a9ac14", 709_025_658),
        ),
    ),
    "shapenetpart_hdf5": Archive(
        file="shapenet_part_seg_hdf5_data.zip",
        urls=(f"{STANFORD}/shapenet_part_seg_hdf5_data.zip",),
        folder="hdf5_data",
        contains="train_hdf5_file_list.txt",
        members={
            "ply_data_train0.h5": "e7152ff588ae6c87eb1156823df05855",
            "ply_data_train1.h5": "b4894a082211418b61b5a707fedb4f56",
            "ply_data_train2.h5": "508eeeee96053b90388520c37df3a8b8",
            "ply_data_train3.h5": "88574c3d5c61d0f3156b9e02cd6cda03",
            "ply_data_train4.h5": "418cb01104740bf1353b792331cb5878",
            "ply_data_train5.h5": "26e65c8827b08f7c340cd03f902e27e8",
            "ply_data_val0.h5": "628b4b3cbc17765de2114d104e51b9c9",
            "ply_data_test0.h5": "fa3fb32b179128ede32c2c948ed83efc",
            "ply_data_test1.h5": "5eb63ae378831c665282c8f22b6c1249",
        },
    ),
}


@dataclass(frozen=True)
class Sampled:
    """A data set that is sampled from the meshes of an archive.

    Args:
        archive: name of the archive.
        folder: folder below the root of the data.
        contains: a path inside ``folder`` that identifies the data.
    """

    archive: str
    folder: str
    contains: str


SAMPLED = {
    "modelnet10": Sampled("modelnet10_meshes", "modelnet10_ply_hdf5_1024", "train_files.txt"),
    "psb": Sampled("psb_meshes", "psb_partseg", "seg_classes.json"),
}


def how_to_get(name: str, folder: Path) -> str:
    """Return the advice how to download the data set ``name`` to ``folder``, for an error."""
    archive = ARCHIVES[SAMPLED[name].archive if name in SAMPLED else name]
    becomes = SAMPLED[name].folder if name in SAMPLED else archive.folder
    tail = Path(becomes).parts
    fits = folder.parts[-len(tail) :] == tail
    root = Path(*folder.parts[: -len(tail)]) if fits else Path("data")
    command = f"bixt3d download {name} --root {root}"
    by_hand = f"fetch {' or '.join(archive.urls)} by hand, put it at {root / archive.file} and run the same command"
    return f"run `{command}`, or {by_hand}" + ("" if fits else f" (the data will be in {root / becomes})")


def missing_data(folder: Path, file: str, archive: str, config: str = "shapes_cls") -> InputError:
    """Return the error for a missing ``file`` of a data set, with advice how to get it.

    ``archive``: the archive to name if ``folder`` is not that of a known data set. ``config``: one that needs no data.
    """
    known = {Path(one.folder).name: name for name, one in (ARCHIVES | SAMPLED).items()}
    own = "folder_partseg" if "part" in config else "folder_cls"
    return InputError(
        f"{folder / file} is missing: {how_to_get(known.get(folder.name, archive), folder)}; clouds of your own in "
        f"train/CLASS/* need --cfg {own} --data.root FOLDER; other layouts: `bixt3d download --layouts` "
        f"(data/README.md); --cfg {config} needs no data"
    )
