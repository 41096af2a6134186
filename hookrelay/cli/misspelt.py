"""Groups of commands that know what was most likely meant."""

import click


class Group(click.Group):
    """A group that answers a command it lacks with the one that is most like it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; its error says more."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from hookrelay.rules.wording import nearest

            near = nearest(args[0], self.list_commands(ctx))
            if near is None:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}: did you mean {near}?", ctx) from error
