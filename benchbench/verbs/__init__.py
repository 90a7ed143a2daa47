"""The verbs of the command line that are not in ``benchbench.cli``: they parse, call, print."""

import click


class Verbs(click.Group):
    """Verbs of which each ends with 130, as shells have it, where Ctrl-C stops it."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb that the command line names."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            ctx.exit(130)
