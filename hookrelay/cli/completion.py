"""`hookrelay completion`: the script by which a shell asks us for completions. The asking itself is click's."""

import click

VARIABLE = "_HOOKRELAY_COMPLETE"


@click.command(short_help="Print the script that lets a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that lets SHELL complete commands, options and their values.

    `hookrelay` must be on the PATH by that name. Exit codes: 0 done, 2 usage.

    \b
    Examples:
      hookrelay completion bash > ~/.local/share/bash-completion/completions/hookrelay
      hookrelay completion zsh > ~/.zfunc/_hookrelay    # with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
      hookrelay completion fish > ~/.config/fish/completions/hookrelay.fish
      eval "$(hookrelay completion bash)"               # for this shell only
    """
    from click.shell_completion import get_completion_class

    from hookrelay.cli.main import main

    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 -- click knows the three by these names
    click.echo(completion(main, {}, "hookrelay", VARIABLE).source())
