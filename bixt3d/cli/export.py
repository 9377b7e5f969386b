"""Export a trained run for other programs: python tools/export.py RUN [--format torch|onnx] [--out FILE]"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bixt3d.config import OFFLINE, TRUST, SettingsParser
from bixt3d.engine.folder import weights_file, words_of
from bixt3d.inference.export import Format, export_run
from bixt3d.io.errors import enough_memory


def main(argv: Sequence[str] | None = None) -> Path:
    """Export a run; returns the file."""
    parser = SettingsParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=str, help="run folder, or its model.safetensors")
    parser.add_argument(
        "--format", type=Format, default="onnx", help="torch: for torch.export.load; onnx: for any runtime"
    )
    parser.add_argument("--out", type=Path | None, help="the file (default: beside the weights, with their name)")
    parser.add_argument(
        "--weights", type=Literal["last", "best"], default="last", help="of the last epoch, or the best on validation"
    )
    parser.epilog = f"{TRUST}. {OFFLINE}"
    where = parser.parse_args(argv)
    weights = weights_file(Path(where.run), where.weights)
    with enough_memory("export on a larger machine, or a run of a smaller model or with a lower --data.num_points"):
        out, found = export_run(weights, where.format, where.out, parser.trust)
    print(f"weights: {weights} ({words_of(weights)})\ncompared with the model: {found}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return out
