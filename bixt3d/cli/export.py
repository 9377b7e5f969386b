"""``bixt3d export RUN``: export a trained run to ONNX or torch.export."""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import ALWAYS, Parser

EPILOG = f"""examples:
  bixt3d export RUN
  bixt3d export RUN --format torch --weights best --out model.pt2

{ALWAYS}"""
FORMATS = ("torch", "onnx")
"""Those of `inference.export`, repeated here because help must not import torch."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        "export", "Export a trained run to one file, ONNX or torch.export, with its preprocessing inside.", EPILOG
    )
    parser.add_argument(
        "run", metavar="RUN", help="run folder, its model.safetensors, or the name of pretrained weights"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="onnx",
        help="onnx (default): for ONNX Runtime and others; torch: for torch.export.load",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the file (default: model.onnx or model.pt2 in the run folder, or in runs/NAME of pretrained weights)",
    )
    parser.add_argument(
        "--weights",
        choices=("last", "best"),
        default="last",
        help="weights of the last epoch (default), or of the best on the validation split",
    )
    parser.add_argument("--trust", action="store_true", help="see below")
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Export a run; returns the file."""
    where = make_parser().parse_args(argv)
    from bixt3d.engine.folder import shown_weights, weights_file
    from bixt3d.inference.export import export_run
    from bixt3d.io.error_messages import enough_memory

    weights = weights_file(where.run, where.weights)
    with enough_memory("export on a larger machine, or a run of a smaller model or with a lower --data.num_points"):
        out, found = export_run(weights, where.format, where.out, where.trust)
    print(f"weights: {shown_weights(weights)}\ncompared with the model: {found}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return out
