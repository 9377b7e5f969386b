"""The paper's first rival: the two directions one after the other, each with parameters of its own (section 3.2)."""

from bixt3d.models.encoder import BixtEncoder
from bixt3d.nn.blocks import SequentialBlock


class SequentialEncoder(BixtEncoder):
    """BixtEncoder with two independent cross-attentions in place of the bi-directional one; the same settings."""

    two_sided_block = SequentialBlock
