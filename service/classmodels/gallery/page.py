"""The page: one HTML file beside its data and contact sheet, that needs no server, no network and no script to be seen.

`html.py` renders it; `templates/` holds its text, style and behaviour; `view.py` what it shows.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from markupsafe import Markup

from classmodels.gallery.html import BESIDE, render
from classmodels.gallery.shares import measure
from classmodels.gallery.sheet import contact_sheet
from classmodels.gallery.strips import write_strips
from classmodels.gallery.thumbs import write_thumbs
from classmodels.gallery.units import read_units
from classmodels.gallery.view import view_of
from classmodels.store import RunPlan, Store
from classmodels.store.believed import read_believed
from classmodels.store.records import gallery_prefix, latest_key
from classmodels.store.seal import is_sealed, sealed

SHEET, DATA, PAGE = "contact-sheet.png", "gallery.json", "index.html"
"""A gallery, in the order of writing. The data names the digests of the other two (see `is_whole`), and is sealed
itself."""
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
    strips, thumbs = write_strips(store, units, prefix), write_thumbs(store, units, prefix)
    view = view_of(units, plan, measure(store, units), strips, thumbs)
    sheet, page = drawn(view) or contact_sheet(store, units, plan.job), render_page(view).encode()
    digests = {name: sha256(data).hexdigest() for name, data in ((SHEET, sheet), (PAGE, page))}
    for name, data in ((SHEET, sheet), (DATA, sealed(_json_bytes({**view, "files": digests}))), (PAGE, page)):
        if read_believed(store.read, prefix + name) != data:
            store.write(prefix + name, data)
    if latest:
        point_latest(store, plan.job, plan.run12)
    return prefix + PAGE


def shown(store: Store, plan: RunPlan) -> dict[str, Any]:
    """What the data of the plan's gallery says; nothing where it is not there, or not as it was written."""
    data = read_believed(store.read, gallery_prefix(plan.job, plan.run12) + DATA) or b""
    try:
        said = json.loads(data) if is_sealed(data) else {}
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def is_whole(store: Store, plan: RunPlan, said: Mapping[str, Any]) -> bool:
    """Whether page and contact sheet are what the gallery's data, which says `said`, was written with."""
    files = said.get("files")
    return isinstance(files, dict) and all(
        sha256(read_believed(store.read, gallery_prefix(plan.job, plan.run12) + name) or b"").hexdigest()
        == files.get(name)
        for name in (PAGE, SHEET)
    )


def point_latest(store: Store, job: str, run12: str) -> None:
    """Make `latest.json` of `job` point to the gallery of a run."""
    if read_believed(store.read, latest_key(job)) != pointer(run12):
        store.write(latest_key(job), pointer(run12))


def pointer(run12: str) -> bytes:
    """What `latest.json` says where it points to the gallery of a run."""
    return _json_bytes({"page": f"{run12}/{PAGE}", "run12": run12})


def render_page(view: Mapping[str, Any], *, alone: bool = False) -> str:
    """The page of a view. alone: nothing lies beside it: pictures in the view are `data:` URLs, and there are no links.

    Each picture is then in the page once, where it is shown, and the script takes it from there.
    """
    return render(
        "gallery.html",
        ["gallery.css"],
        ["parts.js", "gallery.js", "ascent.js", "detail.js"],
        "data:" if alone else BESIDE,
        view=view,
        classes=_by_class(view),
        pairs=view["contrast"][:PAIRS],
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
