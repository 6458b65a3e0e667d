"""The commands: parse arguments, call what does the work, print what it says. No logic of their own.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from classmodels import __version__
from classmodels.cli import cluster, follow, jobs, nightly, papers, results, worker
from classmodels.errors import ClassmodelsError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="classmodels")
def cli() -> None:
    """See what each class means to an image classifier.

    For every class of a network, classmodels finds the image that the network itself scores highest (Simonyan et
    al. 2013) and gathers these class models in a gallery. Start with: classmodels run jobs/figure-1.yaml
    """


for _module in (jobs, cluster, follow, worker, nightly, results, papers):
    for _command in vars(_module).values():
        if isinstance(_command, click.Command):
            cli.add_command(_command)


def guarded(command: Callable[[], Any]) -> int:
    """Run `command`; every error meant for people becomes its message and exit code, an interrupt becomes 130."""
    try:
        command()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ClassmodelsError as error:
        click.echo(f"{error.prefix}{error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    return 0


def main() -> NoReturn:
    """The console script."""
    # A polite kill ends like Ctrl-C: what is done is kept and said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = guarded(lambda: cli.main(standalone_mode=False))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end has come anyway, with an exit code of its own
    if code == 130:
        # At once: threads that wait for a server are not waited for. And by this code: Python would end itself with
        # SIGINT instead where the interrupt has passed through an exec, of which imports have many.
        atexit._run_exitfuncs()  # the Kubernetes client has keys in temporary files, which go at the end
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
