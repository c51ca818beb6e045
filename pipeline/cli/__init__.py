"""The command line: flags are parsed here and nowhere else.

Every module of this package may declare ``COMMANDS``, a tuple of click commands; adding a command
is adding a module. Errors of the three packages become one line, ``error: where: what; what to
do``, and an exit status: 0 every segment accounted for, 1 work left, 2 usage or manifest error,
3 damage found, 130 interrupted.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import click

from pipeline import __version__
from pipeline.errors import (
    DamagedShard,
    ExtractorError,
    ManifestError,
    PipelineError,
    UsageError,
)

EXIT_WORK_LEFT = 1
EXIT_USAGE = 2
EXIT_DAMAGE = 3
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pipeline")
def cli() -> None:
    """Features of frozen video networks, from a list of videos to HDF5.

    \b
    First steps:
      pipeline sample demo                          make ten small videos and a list
      pipeline extract --manifest demo/sample.csv --videos demo/videos --out demo/features
      pipeline status demo/features                 what is there
      pipeline doctor                               what this machine can do

    Every command explains itself with --help.
    """


def _collect() -> None:
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{__name__}.{found.name}")
        for command in getattr(module, "COMMANDS", ()):
            cli.add_command(command)


def exit_status(error: Exception) -> int:
    """Return the exit status that an error ends the command with."""
    if isinstance(error, DamagedShard):
        return EXIT_DAMAGE
    if isinstance(error, (UsageError, ManifestError, ExtractorError)):
        return EXIT_USAGE
    return EXIT_WORK_LEFT


def main() -> None:
    """Run the command line; the entry point of ``pipeline``."""
    _collect()
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (PipelineError, ManifestError, ExtractorError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(exit_status(error))
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"error: {error.filename}: {error.strerror}; check the path", err=True)
        sys.exit(EXIT_WORK_LEFT)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: what was committed is kept; run the same command again", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
