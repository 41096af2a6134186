"""The command line. Commands live one file a group and are imported when they are called, so that each starts fast."""

from importlib import import_module

import click

_COMMANDS = {
    "serve": "Run the daemon.",
    "check": "Check the configuration files, and say what they come to.",
    "explain": "Say where deliveries to a URL would go, and which rule decides.",
    "send": "Submit events to the running daemon.",
    "demo": "Show it all at work, without configuration or network.",
    "version": "Say which version this is.",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"hookrelay.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """hookrelay delivers your app's events as signed webhooks.

    The app writes one line of JSON to a local socket; hookrelay has it on disk before it answers, and delivers it to
    every webhook that wants it.
    """
