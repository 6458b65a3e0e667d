"""The tables of what store.py has measured; table.py puts them into benchmarks/README.md."""

from typing import Any

AGAIN = " x 1000 units"
ASKED = {1: (3, 10), 20: (10, 10)}
"""By the number of models: seconds after start-up, and requests for each model and recipe, that are allowed."""


def sections(reports: list[dict[str, Any]]) -> list[str]:
    """A part for each of `reports` that is store.py's."""
    parts = []
    for report in reports:
        if any(name.endswith(AGAIN) for name in report):
            parts.append("\n".join(["### A second run", "", about(report["machine"]), "", *again(report), ""]))
        elif "cpu_seconds" in report:
            parts.append("\n".join(["### pull", "", about(report["machine"]), "", *pull(report), ""]))
    return parts


def about(machine: dict[str, Any]) -> str:
    note = f" {machine['note'][0].upper()}{machine['note'][1:]}." if "note" in machine else ""
    return (
        f"{machine['device']}, Python {machine['python']}, {machine['server']}, which takes part of the processors;"
        f" commit {machine['git']}, {machine['date']}.{note}"
    )


def again(report: dict[str, Any]) -> list[str]:
    lines = [
        "| a second run of | after start-up, s | asked | whole, s | CPU, s | requests | of each recipe | asked |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in report.items():
        if not name.endswith(AGAIN):
            continue
        models = int(name.removesuffix(AGAIN))
        seconds, each = ASKED[models]
        requests = ", ".join(f"{count} {method}" for method, count in found["requests"].items())
        lines.append(
            f"| {models} x 1000 units | {cell(found['seconds'])} | {seconds} | {cell(found['whole_command_seconds'])} "
            f"| {found['whole_command_cpu_seconds']['median']:.1f} | {requests} "
            f"| {found['requests_for_each_model_and_recipe']:.1f} | {each} |"
        )
    return lines


def pull(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{report['objects']} objects, {report['bytes'] / 1e6:.0f} MB, into an empty folder:",
        "",
        "| whole command | s | CPU, s |",
        "|---|--:|--:|",
    ]
    for name, seconds in report["seconds"].items():
        tool = report["versions"].get(name.split()[0], "")
        lines.append(f"| {name} ({tool}) | {cell(seconds)} | {report['cpu_seconds'][name]['median']:.1f} |")
    nothing = report["classmodels pull, again, nothing to do"]
    return [*lines, f"| classmodels pull, again: nothing to do | {cell(nothing)} | |"]


def cell(spread: dict[str, Any]) -> str:
    """Median, and the quartiles."""
    return f"{spread['median']:.2f} ({spread['quartile_1']:.2f}–{spread['quartile_3']:.2f}, n={spread['n']})"
