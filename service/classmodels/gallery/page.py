"""The page: one HTML file beside its data and contact sheet, that needs no server, no network and no script to be seen.

Style and script are written into the page and allowed by their digest alone, so that nothing a record says can ever
run. `templates/` holds the page's text, style and behaviour; `view.py` what it shows.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from classmodels.gallery.plain import one_way
from classmodels.gallery.sheet import contact_sheet
from classmodels.gallery.units import read_units
from classmodels.gallery.view import view_of
from classmodels.store import RunPlan, Store
from classmodels.store.records import gallery_prefix, latest_key

PAIRS = 24
"""Pairs in the section that sets score against probability: the first ones make the point."""


def write_gallery(
    store: Store,
    plan: RunPlan,
    *,
    latest: bool = True,
    drawn: Callable[[Mapping[str, Any]], bytes | None] = lambda view: None,
) -> str:
    """Write the gallery of `plan` into `store` and return the key of its page.

    Objects that already say what they should are left alone. The page is written after what it links to, and
    `galleries/<job>/latest.json` after the page; with `latest` False that stays as it is. `drawn` may know the contact
    sheet that belongs to a view, which is then not drawn again. Raises InputError for a plan that is none, StoreError.
    """
    prefix = gallery_prefix(plan.job, plan.run12)
    units = read_units(store, plan)
    view = view_of(units, plan)
    objects = {
        prefix + "contact-sheet.png": drawn(view) or contact_sheet(store, units, plan.job),
        prefix + "gallery.json": _json_bytes(view),
        prefix + "index.html": render_page(view).encode(),
    }
    for key, data in objects.items():
        if store.read(key) != data:
            store.write(key, data)
    if latest:
        point_latest(store, plan.job, plan.run12)
    return prefix + "index.html"


def point_latest(store: Store, job: str, run12: str) -> None:
    """Make `latest.json` of `job` point to the gallery of a run."""
    pointer = _json_bytes({"page": f"{run12}/index.html", "run12": run12})
    if store.read(latest_key(job)) != pointer:
        store.write(latest_key(job), pointer)


def render_page(view: Mapping[str, Any], *, alone: bool = False) -> str:
    """The page of a view. alone: nothing lies beside it: pictures in the view are `data:` URLs, and there are no links.

    Each picture is then in the page once, where it is shown, and the script takes it from there.
    """
    script, style = _asset("gallery.js"), _asset("gallery.css")
    sources = "data:" if alone else "'self' file: data:"
    policy = (
        f"default-src 'none'; img-src {sources}; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    page = _environment().get_template("gallery.html")
    return page.render(
        view=view,
        classes=_by_class(view),
        pairs=view["contrast"][:PAIRS],
        policy=Markup(policy),  # quotes of its own, and nothing else in it
        style=Markup(style),
        script=Markup(script),
        alone=alone,
        island=_island(_without_pictures(view) if alone else view),
    )


def _without_pictures(view: Mapping[str, Any]) -> dict[str, Any]:
    """The view without the URLs of its pictures, which are most of it."""
    units = [unit | {"image": unit["image"] | {"href": None}} if "image" in unit else unit for unit in view["units"]]
    return {**view, "units": units}


def _by_class(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes in order, each with the positions of its units."""
    groups: list[dict[str, Any]] = [{**entry, "units": []} for entry in view["classes"]]
    for position, unit in enumerate(view["units"]):
        groups[unit["class"]]["units"].append(position)
    return groups


def _island(view: Mapping[str, Any]) -> Markup:
    """The view as JSON that no parser of HTML can mistake for markup, nor an old script engine for a line's end."""
    data = json.dumps(view, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Markup(data)


def _json_bytes(value: Any) -> bytes:
    """JSON in its own order, a line for each unit or so: small, and fit for a comparison by line."""
    return (
        json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace('},{"id"', '},\n{"id"')
        + "\n"
    ).encode()


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
