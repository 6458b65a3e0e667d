"""The console command `classmodels`."""

from classmodels.cli.entry import cli, guarded, main

__all__ = ["cli", "guarded", "main"]
