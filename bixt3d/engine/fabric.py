"""The name of Lightning's Fabric for annotations: the package takes seconds to import, and only training needs it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric as Fabric
else:
    Fabric = Any
