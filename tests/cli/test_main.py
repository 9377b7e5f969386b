"""The command bixt3d: help imports nothing heavy, mistakes are one sentence, shells complete it, tools/*.py call it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from bixt3d.cli import export, predict
from bixt3d.cli import test as test_command
from bixt3d.cli.choice import TASKS, find
from bixt3d.cli.completion import completion, words_of
from bixt3d.cli.main import COMMANDS, start
from bixt3d.errors import InputError
from bixt3d.io.named_configs import find_config, known_configs

TOOLS = sorted((Path(__file__).parents[2] / "tools").glob("*.py"))
HEAVY = {"torch", "numpy", "jsonargparse", "yaml", "h5py", "PIL", "matplotlib", "lightning_fabric", "tqdm"}
HELP_OF_ALL = f"""
import sys
from contextlib import suppress
from bixt3d.cli.main import COMMANDS, start
commands = [[name] for name in COMMANDS]
commands += [[verb, task] for verb in ("train", "test") for task in ("cls", "partseg", "scenes", "imgcls", "imgseg")]
start(["--help"])
for command in commands:
    with suppress(SystemExit):
        start([*command, "--help"])
        raise RuntimeError(command)
print(len(commands), *sorted({HEAVY} & set(sys.modules)))
"""


def program(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)


def test_help_of_every_command_imports_nothing_heavy():
    said = program("-c", HELP_OF_ALL)
    assert said.returncode == 0, said.stderr
    number, *imported = said.stdout.splitlines()[-1].split()
    assert int(number) >= 18 and imported == []


def test_mistakes_of_the_command_line_are_answered_without_torch():
    code = "import sys\nfrom bixt3d.cli.main import start\ntry:\n    start(['predict', '--jsno', 'a.ply'])\n"
    code += f"except ValueError as error:\n    print(error, *sorted({HEAVY} & set(sys.modules)))"
    assert program("-c", code).stdout.strip() == "unknown option '--jsno'; did you mean '--json'?"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["trian"], "there is no command 'trian'; did you mean 'train'?"),
        (["train"], "say what to train: bixt3d train cls|partseg|scenes|imgcls|imgseg ..."),
        (["train", "--cfg", "shapes_cls"], "say what to train: bixt3d train cls|partseg|scenes|imgcls|imgseg ..."),
        (["train", "clss"], "there is no task 'clss'; did you mean 'cls'?"),
        (["export"], "the following arguments are required: RUN"),
        (["export", "a", "b"], "'b' is one argument too many"),
        (["export", "a", "--format=onx"], "invalid choice: 'onx'"),
        (["cost", "--tabel=2"], "unknown option '--tabel=2'; did you mean '--table'?"),
        (["visualize", "--worts"], "unknown option '--worts'; did you mean '--worst'?"),
        (["--print_completion", "fish"], "there is completion for bash and zsh, not for 'fish'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(command, sentence):
    with pytest.raises(InputError) as caught:
        start(command)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_mistake_ends_the_program_with_code_2():
    ended = program("-m", "bixt3d", "trian")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: there is no command 'trian'; did you mean 'train'?\n"


def test_a_reader_that_has_enough_ends_the_program_quietly():
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "bixt3d", "download", "--layouts"]
    ended = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_the_version_is_that_of_the_package(capsys):
    import bixt3d

    start(["--version"])
    assert capsys.readouterr().out == f"bixt3d {bixt3d.__version__}\n"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_a_program_of_the_checkout_is_its_subcommand(tool):
    said = program(str(tool), "--help")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"usage: bixt3d {tool.stem.replace('_', ' ')} ")
    assert len([line for line in tool.read_text().splitlines() if line.strip()]) == 4


def test_every_subcommand_but_those_that_only_tell_has_a_program_in_the_checkout():
    with_task = {"train", "test"}
    expected = {f"{verb}_{task}" for verb in with_task for task in TASKS}
    expected |= set(COMMANDS) - with_task - {"data", "download", "info", "list", "compare"}
    assert {tool.stem for tool in TOOLS} == expected


def test_what_help_writes_out_is_what_the_package_knows():
    from bixt3d.datasets.files.reader import SUFFIXES
    from bixt3d.datasets.files.writers import FORMATS
    from bixt3d.datasets.images.reading import ENDINGS
    from bixt3d.datasets.transforms.upright import UPS
    from bixt3d.inference.export import Format

    assert set(predict.CLOUDS.split()) == set(SUFFIXES) and predict.IMAGES.split() == list(ENDINGS)
    assert predict.UPS == UPS and predict.FORMATS == FORMATS
    assert set(export.FORMATS) == set(get_args(Format))
    for name, choice in TASKS.items():
        task = find(name)
        assert (task.program, task.name, task.unit) == (name, choice.task, choice.unit)
        assert task.example == f"bixt3d train {name} --cfg {choice.config}" and find_config(choice.config)
        assert test_command.MORE.get(name) == task.more


BASH = """
source {script}
complete_words() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _bixt3d; echo "${{COMPREPLY[*]}}"
}}
complete_words bixt3d tr
complete_words bixt3d train im
complete_words bixt3d train cls --cfg modelnet40_p
complete_words bixt3d train cls --cfg = shapes_c
complete_words bixt3d train cls --cfg =
complete_words bixt3d train cls --res
complete_words bixt3d predict --che
complete_words bixt3d predict scan
complete_words bixt3d list con
complete_words bixt3d download modelnet10
complete -p bixt3d
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_tasks_configs_and_options_and_leaves_files_to_itself(tmp_path):
    (tmp_path / "script").write_text(completion("bash", list(COMMANDS)))
    command = ["bash", "--norc", "-c", BASH.format(script=tmp_path / "script")]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.stderr == ""
    assert said.stdout.splitlines() == [
        "train",
        "imgcls imgseg",
        "modelnet40_pointmlp modelnet40_pointmlp_elite",
        "shapes_cls",
        " ".join(known_configs()),
        "--resume",
        "--checkpoint",
        "",
        "configs",
        "modelnet10 modelnet10_meshes",
        "complete -o default -F _bixt3d bixt3d",
    ]


def test_the_words_of_a_command_are_its_options_and_choices():
    assert {"cls", "--cfg", "--resume"} <= set(words_of("train")) and "--corrupted" in words_of("test")
    assert {"--up", "--json"} <= set(words_of("predict"))


def test_zsh_reads_the_same_script():
    assert completion("zsh", ["cost"]).endswith(completion("bash", ["cost"]))
    assert "bashcompinit" in completion("zsh", ["cost"])
