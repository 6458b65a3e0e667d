"""The commands for papers: a figure, and what to say of it."""

from collections.abc import Sequence
from typing import Any

import click

from classmodels.cli.shared import JSON, SOURCE, print_json


def _choice(name: str, metavar: str, help: str) -> Any:
    return click.option(f"--{name}", multiple=True, metavar=metavar, help=help)


@click.command()
@SOURCE
@click.option("--output", metavar="FILE", required=True, type=click.Path(dir_okay=False), help="The file to write.")
@_choice("classes", "A,B,...", "Indices, ranges such as 10-19, names; in this order. [default: all]")
@_choice("recipes", "A,B,...", "Names of recipes, in this order. [default: all]")
@_choice("models", "A,B,...", "Names of models, in this order. [default: all]")
@click.option("--format", "kind", type=click.Choice(["png", "pdf"]), help="[default: as FILE ends]")
@JSON
def figure(
    source: str,
    output: str,
    classes: Sequence[str],
    recipes: Sequence[str],
    models: Sequence[str],
    kind: Any,
    as_json: bool,
) -> None:
    """Draw images of one gallery of SRC as a figure for a paper: 300 dpi, at most 170 mm wide.

    One recipe: a grid, as Figure 1 of Simonyan et al. 2013. Several: a row for each class, a column for each recipe.
    """
    from dataclasses import asdict

    from classmodels.results.chosen import split
    from classmodels.results.figure import DPI
    from classmodels.results.figure import figure as draw
    from classmodels.results.place import open_place

    chosen = {"classes": split(classes), "recipes": split(recipes), "models": split(models)}
    done = draw(open_place(source), output, kind, **chosen)
    if as_json:
        print_json(asdict(done))
    else:
        missing = f", {done.missing} could not be had" if done.missing else ""
        size = f"{done.width / DPI * 25.4:.0f} x {done.height / DPI * 25.4:.0f} mm"
        click.echo(f"{done.images} images{missing}, {size} at {DPI} dpi\n{done.file}")


@click.command()
@SOURCE
@JSON
def cite(source: str, as_json: bool) -> None:
    """What to say of one gallery of SRC in a paper: methods, BibTeX, and the command that runs its job again."""
    from dataclasses import asdict

    from classmodels.results.cite import cite as say
    from classmodels.results.place import open_place

    said = say(open_place(source))
    if as_json:
        print_json(asdict(said))
    else:
        click.echo(f"{said.methods}\n\n{said.bibtex}\n\nWith its job file and the same --set options:\n{said.again}")
