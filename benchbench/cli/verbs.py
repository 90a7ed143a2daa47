"""The command group: every verb ends in the same way, whatever stops it."""

import errno
import io
import logging
import os
import sys
import traceback

import click

from benchbench.core.errors import UserError

UNEXPECTED = 2
"""Exit code of an unexpected error: 1 has other meanings, such as a regression."""


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
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:
                mute_output()  # the reader closed the pipe: nothing is wrong
                ctx.exit(0)
            where = f"{error.filename}: " if error.filename else ""
            raise UserError(
                f"{where}{error.strerror or error}; check the path, its rights and the disk's "
                "room, then run the same command again"
            ) from None
        except Exception:
            traceback.print_exc()
            click.echo(
                "benchbench met something unforeseen; please report the lines above", err=True
            )
            ctx.exit(UNEXPECTED)
        finally:
            logging.getLogger("benchbench").removeHandler(handler)


def mute_output() -> None:
    """Let nothing more be written to an output that takes no more, not even as Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


class _ToTerminal(logging.Handler):
    """Prints log messages to standard error, which is not the report's."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)
