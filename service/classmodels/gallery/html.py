"""How every page is made: a template with its style and script written into it, both allowed by their digest alone.

So nothing that a record, a label or a sidecar says can ever run, and a page needs neither server nor network.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from classmodels.gallery.plain import one_way

BESIDE = "'self' file: data:"
"""Pictures that lie beside the page, on a disk or a web server."""


def render(template: str, styles: Sequence[str], scripts: Sequence[str], pictures: str = BESIDE, **values: Any) -> str:
    """The page of `template` with these assets of `templates/`. pictures: where they may come from."""
    style, script = ("".join(map(_asset, names)) for names in (styles, scripts))
    policy = (
        f"default-src 'none'; img-src {pictures}; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    page = _environment().get_template(template)
    return page.render(
        policy=Markup(policy),  # quotes of its own, and nothing else in it
        style=Markup(style),
        script=Markup(script),
        **values,
    )


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("classmodels.gallery", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"one_way": one_way, "percent": _percent, "figure": _figure}
    return environment


def _percent(share: float | None) -> str:
    """A rate as people write it: 92 %, and never 100 % for less than all."""
    if share is None:
        return "–"
    whole = min(round(share * 100), 99) if share < 1 else 100
    return f"{max(whole, 1) if share > 0 else 0} %"


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"
