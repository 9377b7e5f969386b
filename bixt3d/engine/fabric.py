"""Fabric for annotations, without importing lightning_fabric: that takes seconds, and only training needs it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric as Fabric
else:
    Fabric = Any
