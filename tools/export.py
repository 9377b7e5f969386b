"""Export a trained run for other programs: python tools/export.py RUN [--format torch|onnx] [--out FILE]"""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.config import SettingsParser, run_program
from bixt3d.export import Format, export_run


def main(argv: Sequence[str] | None = None) -> Path:
    """Export a run; returns the file."""
    parser = SettingsParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=str, help="run folder, or its model.safetensors")
    parser.add_argument(
        "--format", type=Format, default="onnx", help="torch: for torch.export.load; onnx: for any runtime"
    )
    parser.add_argument("--out", type=Path | None, help="the file (default: model.onnx or model.pt2 in the run folder)")
    parser.epilog = "--trust: import the class of the run's model if it is not bixt3d's, and so run its code"
    where = parser.parse_args(argv)
    out, found = export_run(where.run, where.format, where.out, parser.trust)
    print(f"compared with the model: {found}\n{out}: {out.stat().st_size / 1e6:.1f} MB")
    return out


if __name__ == "__main__":
    run_program(main)
