"""The paper's first baseline: two sequential cross-attentions, each with its own parameters (section 3.2)."""

from bixt3d.models.encoder import BixtEncoder
from bixt3d.nn.blocks import SequentialBlock


class SequentialEncoder(BixtEncoder):
    """BixtEncoder with two sequential cross-attentions in place of the bi-directional one; the same settings."""

    two_sided_block = SequentialBlock
