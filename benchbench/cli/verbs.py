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
    """A group of commands; Ctrl-C ends each with exit code 130, as shells expect."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb that the command line names; whatever stops it, print one sentence."""
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
            click.echo("benchbench failed unexpectedly; please report the lines above", err=True)
            ctx.exit(UNEXPECTED)
        finally:
            logging.getLogger("benchbench").removeHandler(handler)


def mute_output() -> None:
    """Send standard output to /dev/null, so that Python's last flush does not fail either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


class _ToTerminal(logging.Handler):
    """Prints log messages to standard error, apart from the report."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)
