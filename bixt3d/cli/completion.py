"""``bixt3d --print_completion bash|zsh``: shell completion of commands, options, tasks and names of configs."""

from argparse import ArgumentParser
from importlib import import_module

from bixt3d.cli.choice import TASKS
from bixt3d.errors import InputError
from bixt3d.io.named_configs import known_configs

BASH = """_bixt3d() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words="" prefix=""
    case "$current" in --*=*)  # zsh: bash splits words at =
        previous="${current%%=*}"; prefix="$previous="; current="${current#*=}" ;;
    esac
    if [ "$current" = "=" ]; then current=""
    elif [ "$previous" = "=" ]; then previous="${COMP_WORDS[COMP_CWORD-2]}"; fi
    if [ "$previous" = "--cfg" ]; then words="CONFIGS"
    elif [ "$COMP_CWORD" = 1 ]; then words="COMMANDS"
    else case "${COMP_WORDS[1]}" in
CASES
    esac; fi
    COMPREPLY=($(compgen -P "$prefix" -W "$words" -- "$current"))
}
complete -o default -F _bixt3d bixt3d
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
"""Zsh runs the script of bash after these lines."""


def completion(shell: str, commands: list[str]) -> str:
    """Return the completion script of a shell; other words are completed as file names."""
    if shell not in ("bash", "zsh"):
        raise InputError(f"there is completion for bash and zsh, not for '{shell}': --print_completion bash")
    cases = "\n".join(f'    {name}) words="{" ".join(words_of(name))}" ;;' for name in commands)
    script = BASH.replace("CASES", cases).replace("COMMANDS", " ".join(commands))
    return ZSH * (shell == "zsh") + script.replace("CONFIGS", " ".join(known_configs()))


def words_of(command: str) -> list[str]:
    """Return the words that may follow a command: its options and the choices of its arguments."""
    module = import_module(f"bixt3d.cli.{command}")
    of_tasks = command in ("train", "test")
    parsers: list[ArgumentParser] = [module.make_parser(name) for name in TASKS] if of_tasks else [module.make_parser()]
    actions = [action for parser in parsers for action in parser._actions]
    first = [word for action in actions if not action.option_strings for word in action.choices or ()]
    options = [option for action in actions for option in action.option_strings if option.startswith("--")]
    return list(dict.fromkeys([*(TASKS if of_tasks else ()), *map(str, first), *options]))
