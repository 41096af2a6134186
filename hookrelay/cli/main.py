"""The command line. Commands live one file a group and are imported when they are called, so that each starts fast."""

import os
from importlib import import_module
from keyword import iskeyword

import click
from click.shell_completion import CompletionItem

from hookrelay.cli.misspelt import Group

_COMMANDS = {
    "serve": "Run the daemon.",
    "check": "Check the configuration files, and say what they come to.",
    "status": "Say how the running daemon does, on one screen.",
    "reload": "Have the daemon read its files again.",
    "send": "Submit events to the running daemon.",
    "listen": "Post events to a server on your machine as they come: for development.",
    "webhooks": "List, make, change, test and delete webhooks.",
    "deliveries": "List deliveries, look at one, try it again, watch them pass.",
    "events": "List events, look at one, expunge payloads.",
    "replay": "Deliver again what a webhook missed.",
    "keys": "Make, list and revoke keys of the HTTP API.",
    "audit": "List who changed what, and when.",
    "dashboard-link": "Make a one-time link to the dashboard.",
    "backup": "Write the store into one file, verified.",
    "doctor": "Look for anything wrong, and say what to do.",
    "export": "Write webhooks as TOML.",
    "import": "Make and change webhooks as a TOML file says.",
    "sign": "Sign a payload as deliveries are signed.",
    "verify": "Check the signature of a delivery.",
    "explain": "Say where deliveries to a URL would go, and which rule decides.",
    "demo": "Show it all at work, without configuration or network.",
    "completion": "Print the script that lets a shell complete commands.",
    "version": "Say which version this is.",
}


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = f"{name}_" if iskeyword(name) else name.replace("-", "_")
        command: click.Command = import_module(f"hookrelay.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table: importing each of them would take longer than a person waits for a tab."""
        fitting = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return fitting + click.Command.shell_complete(self, ctx, incomplete)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """hookrelay delivers your app's events as signed webhooks.

    The app writes one line of JSON to a local socket; hookrelay has it on disk before it answers, and delivers it to
    every webhook that wants it.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
