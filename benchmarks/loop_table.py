"""The tables of what loop.py has measured; table.py puts them into benchmarks/README.md."""

from typing import Any

ASKED = {"plain": 0.95, "l2": 0.95, "l1": 0.95, "natural": 0.88}
"""Of the bare network's speed."""


def sections(reports: list[dict[str, Any]]) -> list[str]:
    """A part for each of `reports` that is loop.py's."""
    return ["\n".join(part(report)) for report in reports if "loop" in report]


def part(report: dict[str, Any]) -> list[str]:
    machine = report["machine"]
    about = (
        f"torch {machine['torch']}, {machine['threads']} threads, torch-lucent "
        f"{machine['torch-lucent'] or 'not there'}; commit {machine['git']}; load average before the run "
        f"{machine['load_average']}."
    )
    lines = [f"### The loop on {machine['device']}", "", about, ""]
    for race in report["loop"]:
        lines += contest(race)
    return lines


def contest(race: dict[str, Any]) -> list[str]:
    numerics, floor = race["numerics"], race["floor"]
    found = {entry["contestant"]: entry for entry in race["measurements"]}
    folded = "folded" if numerics["folded"] else "not folded"
    lines = [
        f"**{race['network']}**, batch {race['batch']}, {numerics['dtype']}, {folded}, ops {numerics['backend']}",
        "",
        "| | ms per image-step | of the network's speed | asked | peak memory, MiB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, entry in found.items():
        half = (entry["upper_quartile"] - entry["lower_quartile"]) / 2 / entry["milliseconds"]
        ratio = "" if name.startswith("natural:") else f"{entry['ratio']:.2f}"
        lines.append(
            f"| {name} | {entry['milliseconds']:.2f} ±{100 * half:.0f} % (n={entry['samples']}) | {ratio} "
            f"| {ASKED.get(name, '')} | {entry.get('peak_mib', '')} |"
        )
    lines += [""]
    for other, asked in (("torch-lucent", 4.5), ("naive", 2.8)):
        if other in found and numerics["threads"]:
            times = found[other]["milliseconds"] / found["natural"]["milliseconds"]
            lines += [f"`natural` is {times:.1f} times as fast as {other} (asked: {asked}).", ""]
    bound = (
        f"The floor: an image-step of the network is {floor['gflop']:.2f} GFLOP, done at {floor['gflop_per_s']:.0f} "
        f"GFLOP/s, where a product of two 2048 x 2048 matrices of its precision goes at "
        f"{floor['product_gflop_per_s']:.0f}."
    )
    lines += [bound, ""]
    for kind, values in (race["growth"] or {}).items():
        cells = ", ".join(f"{value}: {milliseconds:.1f}" for value, milliseconds in values.items())
        lines += [f"Whole ascents under `plain`, ms per image-step by {kind}: {cells}.", ""]
    return lines
