"""The command group: every verb ends in the same way, whatever stops it."""

import errno
import io
import logging
import sys

import click

from benchbench.core.errors import UserError


class Verbs(click.Group):
    """Verbs of which each ends with 130, as shells have it, where Ctrl-C stops it."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb that the command line names, wherever its output goes."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a Latin-1 terminal has no minus
        handler = _ToTerminal()
        logging.getLogger("benchbench").addHandler(handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            ctx.exit(130)
        except OSError as error:
            if error.errno is None or error.errno == errno.EPIPE:
                raise  # not of a file; a reader that has gone is click's to end on
            where = f"{error.filename}: " if error.filename else ""
            raise UserError(
                f"{where}{error.strerror}; mend it or make room, then run the same command again"
            ) from error
        finally:
            logging.getLogger("benchbench").removeHandler(handler)


class _ToTerminal(logging.Handler):
    """Prints log messages to standard error, which is not the report's."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)
