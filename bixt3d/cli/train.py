"""``bixt3d train cls|partseg|imgcls|imgseg``: train a run, or one run for each seed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.choice import HELP, TASKS, choose_task, find, say_which
from bixt3d.cli.parser import ALWAYS, Parser

SETTINGS = """settings of a run, in its config (a yaml file) or on the command line:
  --data      the data set: --data ModelNetHDF5 --data.root FOLDER --data.num_points 1024
  --model     the model: --model.encoder.depth 4
  --augment   augmentation of training {unit}
  --train     --train.epochs 300, --train.batch_size 32, --train.init RUN (fine-tuning from another run)
  --optim     learning rate, EMA: --optim.lr 1e-3, --optim.ema 0.9998
  --runtime   devices, mixed precision: --runtime.devices 2, --runtime.precision bf16-mixed
  --seed      seed of weights, shuffling and augmentation
all settings: bixt3d train {name} --help_settings; of one class: bixt3d train {name} --data.help CLASS (or --model.help)

examples:
  bixt3d train {name} --cfg {config}
  bixt3d train {name} --cfg {config} --run_dir runs/mine --train.epochs 10 --seeds 0,1,2
  bixt3d train {name} --resume

{always}"""


def main(argv: Sequence[str] | None = None) -> Path:
    """Train a run of the task in the first argument; returns its folder."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = choose_task(argv, "train", "usage: bixt3d train TASK --cfg CONFIG ...")
    if name is None:
        raise say_which(argv[0] if argv else "", "train")
    rest = argv[1:]
    if set(rest) & set(HELP):
        make_parser(name).parse_args(["--help"])
    from bixt3d.tasks.training import train

    task = find(name)
    return train(task, f"Train {TASKS[name].what}.", ["--help" if one == "--help_settings" else one for one in rest])


def make_parser(name: str) -> Parser:
    """Return the parser of a task's help; `tasks.training` parses the settings of a run."""
    choice = TASKS[name]
    text = SETTINGS.format(name=name, unit=choice.unit, config=choice.config, always=ALWAYS)
    parser = Parser(f"train {name}", f"Train {choice.what}.", text)
    parser.add_argument("--cfg", metavar="CONFIG", help="name (see bixt3d list configs) or yaml file of a config")
    parser.add_argument("--run_dir", metavar="FOLDER", help="folder of the run (default: runs/NAME-TIME)")
    parser.add_argument("--resume", metavar="RUN", nargs="?", help="resume this run; without a folder, the newest one")
    parser.add_argument(
        "--seeds", metavar="0,1,2", help="train a run for each seed; scores are mean and standard deviation"
    )
    parser.add_argument("--print_config", action="store_true", help="print all settings as yaml and end")
    parser.add_argument("--help_settings", action="store_true", help="print the help of all settings")
    return parser
