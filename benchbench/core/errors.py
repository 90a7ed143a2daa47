"""The one kind of error that a user can cause and cure."""

import click


class UserError(click.ClickException):
    """A mistake a user can mend: one sentence of what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """

    exit_code = 2
