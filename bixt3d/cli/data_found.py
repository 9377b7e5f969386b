"""What `bixt3d data check` found in a folder: its clouds, the files that are of no use, and whether they are scenes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from bixt3d.cli.data_clouds import SeenCloud, see_cloud
from bixt3d.datasets.clouds.folder_files import Listing
from bixt3d.datasets.clouds.folder_reading import fault_of, read_clouds
from bixt3d.datasets.clouds.part_folder import WHOLE
from bixt3d.datasets.scenes.folder import Classes
from bixt3d.datasets.scenes.labels_beside import with_labels_beside
from bixt3d.datasets.scenes.scene import cloud_in_meters
from bixt3d.io.bounds import printable
from bixt3d.types import InputError


@dataclass
class Found:
    """All that was found in a folder; ``faults``: a line for each file of no use."""

    root: Path
    listing: Listing
    parts: bool
    classes: Classes | None = None
    clouds: list[SeenCloud] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def scenes(self) -> bool:
        """Whether the clouds are scenes: there are classes, or more than half of them look like scenes."""
        alike = sum(cloud.looks_like_scene for cloud in self.clouds)
        return self.parts and (self.classes is not None or (self.may_be_scenes and 2 * alike > len(self.clouds)))

    @property
    def may_be_scenes(self) -> bool:
        """Whether the clouds may be scenes: with labels of points, in no class folders, and no meshes."""
        return self.parts and all(cloud.label == WHOLE and cloud.spacing is not None for cloud in self.clouds)

    def labels(self, *splits: str) -> Counter:
        """Return the number of points of each label in these splits."""
        return sum((cloud.labels for cloud in self.clouds if cloud.split in splits), Counter())

    def of(self, split: str) -> list[SeenCloud]:
        """Return the clouds of a split."""
        return [cloud for cloud in self.clouds if cloud.split == split]


def look(found: Found, label: str) -> Found:
    """Read every file, and remember what matters of it."""
    for number, entry in enumerate(tqdm(found.listing.entries, desc=f"reading {printable(found.root)}", unit="file")):
        split = "train" if number < found.listing.num_train else "test"
        fault = "broken"
        try:
            clouds = read_clouds(entry.path)
            if found.parts:
                clouds = [with_labels_beside(cloud_in_meters(cloud), entry.path) for cloud in clouds]
            fault = "not usable"
            seen = [see_cloud(entry.path, cloud, split, entry.label or WHOLE, found.parts, label) for cloud in clouds]
        except InputError as error:
            found.faults.append(": ".join([fault, " ".join(fault_of(entry.path, found.root, error))]))
            continue
        found.clouds += seen
    return found
