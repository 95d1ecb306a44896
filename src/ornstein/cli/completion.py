"""Scripts that complete the commands, flags and files of `ornstein` in a shell: `ornstein --print-completion bash|zsh|fish`."""

from dataclasses import fields
from shlex import quote

from ornstein.cli.options import COMMANDS
from ornstein.cli.parse import docstrings
from ornstein.errors import UsageError

GENERAL = ("--help", "--version", "--print-completion")


def script(shell: str) -> str:
    """What the shell is to read. Raises UsageError for one that is not known."""
    if shell not in SHELLS:
        raise UsageError(f"--print-completion {shell!r} is not known; give one of {', '.join(SHELLS)}")
    return SHELLS[shell]()


def flags(command: str) -> dict[str, str]:
    """The flags of a command as typed, each with the first sentence of its help."""
    kind = COMMANDS[command]
    helps = docstrings(kind)
    own = [f for f in fields(kind) if not f.metadata.get("positional")]
    described = {f"--{f.name.replace('_', '-')}": helps[f.name] for f in own}
    described |= {f.metadata["short"]: helps[f.name] for f in own if "short" in f.metadata}
    described |= {"--help": "Show the flags.", "--debug": "Show the traceback of a failure."}
    return {flag: _first(text) for flag, text in described.items()}


def _first(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _cases(line: str) -> str:
    return "\n".join(line.format(command=command, flags=" ".join(flags(command))) for command in COMMANDS)


def _bash() -> str:
    return f"""_ornstein() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} flags
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{" ".join((*COMMANDS, *GENERAL))}" -- "$word"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{_cases("        {command}) flags='{flags}' ;;")}
        --print-completion) COMPREPLY=($(compgen -W "{" ".join(SHELLS)}" -- "$word")); return ;;
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _ornstein ornstein"""


def _zsh() -> str:
    return f"""#compdef ornstein
_ornstein() {{
    local -a flags
    if (( CURRENT == 2 )); then
        compadd -- {" ".join((*COMMANDS, *GENERAL))}
        return
    fi
    case $words[2] in
{_cases("        {command}) flags=({flags}) ;;")}
        --print-completion) compadd -- {" ".join(SHELLS)}; return ;;
    esac
    if [[ $PREFIX == -* ]]; then
        compadd -- $flags
    else
        _files
    fi
}}
if [[ $funcstack[1] == _ornstein ]]; then _ornstein "$@"; else compdef _ornstein ornstein; fi"""


def _fish() -> str:
    lines = [
        f"complete -c ornstein -n __fish_use_subcommand -f -a {command} -d {quote(_first(kind.__doc__ or ''))}"
        for command, kind in COMMANDS.items()
    ]
    shells = {"--print-completion": f" -x -a {quote(' '.join(SHELLS))}"}
    general = "complete -c ornstein -n __fish_use_subcommand -f -l"
    lines += [f"{general} {flag[2:]}{shells.get(flag, '')}" for flag in GENERAL]
    for command in COMMANDS:
        there = f"complete -c ornstein -n '__fish_seen_subcommand_from {command}'"
        for flag, about in flags(command).items():
            kind = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            lines.append(f"{there} {kind} -d {quote(about)}")
    return "\n".join(lines)


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
