"""Print docs/reference/command-line.md, the output of `--help` of every command."""

from collections.abc import Iterator

import click

from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import CONTEXT

COMMAND = "python -m dpt_ray.cli.document > docs/reference/command-line.md"

_HEAD = f"""# Command line

`pip install` of the package installs the command `dpt`. In a checkout or an image without it, `python -m dpt_ray` is
the same command. The scripts `jobs/*.py` call the same commands, for `ray job submit -- python jobs/dpt_full.py ...`:

| script | command |
|---|---|
| `jobs/dpt_full.py` | `dpt run` |
| `jobs/prepare_data.py` | `dpt prepare` |
| any other | the command with the script's name, with hyphens |

**Configurations.** `--config` takes a YAML file, or the name of a configuration that comes with the package. The name
is the path below `configs/` without extension: `--config digits`, `--config sizing/hundred_million`. `dpt tune` takes
the names below `configs/tune/`: `--config guidance_scale`. If the working folder also holds a file of that name, with
or without `.yaml`, the command is refused; `--config ./digits.yaml` names the file.

**Settings.** `--set a.b=c` overrides one setting of the configuration and may be repeated. All settings are listed in
[settings.md](settings.md).

**Exit statuses.** 0: success. 2: an error that you can correct, in settings, data, environment or the command line; one
line says what, where and what to do. 75: a process that the command needs has died, or SIGTERM announced a preemption;
the same command resumes. 130: interrupted; the same command resumes. 1: any other error.

**Logs.** With `DPT_LOG_FORMAT=json` every line is a JSON object, errors included.

**Completion.** `eval "$(dpt completion bash)"` in `~/.bashrc` completes commands, options, names of configurations and
names of settings. For zsh, write the same with `zsh` into `~/.zshrc`. For fish, write the output of
`dpt completion fish` to `~/.config/fish/completions/dpt.fish`.

This page is written by `{COMMAND}`.
"""


_WIDTH = 78
"""Width of click's help text on a terminal of 80 columns."""


def render_command_line() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *_sections(dpt, click.Context(dpt, info_name=NAME, terminal_width=_WIDTH, **CONTEXT))])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _sections(inner, click.Context(inner, context, name, terminal_width=_WIDTH, **CONTEXT))


if __name__ == "__main__":
    print(render_command_line(), end="")
