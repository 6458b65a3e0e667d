"""The tables of benchmarks/README.md from the results beside it: python benchmarks/table.py benchmarks/results/*.json

Those of step.py, of loop.py (loop_table.py) and of store.py (store_table.py) go between two markers each; what stands
there is replaced.
"""

import json
import sys
from pathlib import Path
from typing import Any

import loop_table
import store_table

README = Path(__file__).parent / "README.md"
MARKS = "<!-- {}: made by table.py -->\n", "<!-- end of {} -->\n"
FEW = 5
LARGE = 500e6
CPU_BATCH = 32
# What is aimed for, without and with TV: the ratio to the yardstick, and to the time of compiled PyTorch.
TARGETS = {"cpu": {False: (0.9, 1.0), True: (0.75, 1.2)}, "cuda": {False: (0.9, 1.0), True: (0.8, 1.0)}}


def main() -> None:
    reports = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sorted(sys.argv[1:])]
    text = README.read_text(encoding="utf-8")
    text = replaced(text, "tables", [section(report) for report in reports if "configurations" in report])
    text = replaced(text, "loop tables", loop_table.sections(reports))
    text = replaced(text, "store tables", store_table.sections(reports))
    README.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, parts: list[str]) -> str:
    """`text` with `parts` between the markers of `name`; as it is where there are none."""
    if not parts:
        return text
    begin, end = (mark.format(name) for mark in MARKS)
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return head + begin + "\n" + "\n".join(parts) + "\n" + end + tail


def section(report: dict[str, Any]) -> str:
    machine, settings, every = report["machine"], report["settings"], report["configurations"]
    compiler = (machine.get("extension") or {}).get("compiler", "no compiler").strip('"')
    about = (
        f"torch {machine['torch']}, {compiler}, {settings['threads']} threads, CPU variant {machine['cpu_variant']}, "
        f"last cache {settings['last_cache'] / 2**20:.0f} MiB; commit {machine['git']}; load average before the run "
        f"{machine['load_average']}. A step of no images, which is what Python and the dispatcher take, is "
        f"{report['call_microseconds']:.1f} µs."
    )
    lines = [
        f"### {machine['device']}",
        "",
        about,
        "",
        *claims(settings["device"], every),
        *variants(every),
        "<details><summary>All measurements</summary>",
        "",
    ]
    for method, tv in (("adam", False), ("adam", True), ("sgd", False)):
        for layout in ("contiguous", "channels_last"):
            found = [c for c in every if (c["method"], c["tv"], c["layout"]) == (method, tv, layout)]
            if found:
                lines += [f"**{method}, {layout}, {'with' if tv else 'without'} TV**", "", *measurements(found), ""]
    warm = sorted({c["batch"] for c in every if not c["larger_than_caches"]})
    if warm:
        lines += [f"Not larger than the caches, for want of memory: B = {', '.join(map(str, warm))}.", ""]
    return "\n".join([*lines, "</details>", ""])


def named(configuration: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The measurements that there are, by contestant."""
    return {m["contestant"]: m for m in configuration["measurements"] if m["status"] == "ok"}


def claims(device: str, every: list[dict[str, Any]]) -> list[str]:
    """What is aimed for, beside what was measured."""
    ours = "cuda" if device == "cuda" else "cpp"
    against = "copy" if device == "cuda" else "better of copy and triad"
    lines = [
        f"| Adam step | {ours}, µs | GB/s | of {against} | asked | times as fast as compile | asked | as in place |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for c in every:
        chosen = c["bytes"] >= LARGE if device == "cuda" else c["batch"] == CPU_BATCH
        found = named(c)
        if not chosen or c["method"] != "adam" or ours not in found:
            continue
        mine = found[ours]
        ratio = mine["gb_per_s"] / found["copy"]["gb_per_s"] if device == "cuda" else mine["ratio"]
        bandwidth, speed = TARGETS[device][c["tv"]]
        lines.append(
            f"| B = {c['batch']}, {c['layout']}, {'with' if c['tv'] else 'without'} TV | {cell(mine, ratio=False)} "
            f"| {mine['gb_per_s']:.1f} | {ratio:.2f} | {bandwidth} "
            f"| {times(found, 'compile', mine)} | {speed} | {times(found, 'in place', mine)} |"
        )
    return [*lines, ""] if len(lines) > 2 else []


def times(found: dict[str, dict[str, Any]], other: str, mine: dict[str, Any]) -> str:
    if other not in found:
        return "–"
    return f"{found[other]['microseconds']['median'] / mine['microseconds']['median']:.2f}"


def variants(every: list[dict[str, Any]]) -> list[str]:
    """The CPU kernels by instruction set; the column `cpp` is the widest, which is what runs unasked."""
    found = [(c, named(c)) for c in every if any(name.startswith("cpp ") for name in named(c))]
    if not found:
        return []
    names = ["cpp", *sorted({name for _, each in found for name in each if name.startswith("cpp ")})]
    lines = [f"| µs, B = {CPU_BATCH} | {' | '.join(names)} |", "|---" + "|--:" * len(names) + "|"]
    for c, each in found:
        label = f"{c['method']}, {c['layout']}, {'with' if c['tv'] else 'without'} TV"
        cells = (cell(each[name]) if name in each else "–" for name in names)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, ""]


def measurements(found: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(m["contestant"] for c in found for m in c["measurements"]))
    names = [name for name in names if not name.startswith("cpp ")]
    lines = [f"| | {' | '.join('B = ' + str(c['batch']) for c in found)} |"]
    lines.append("|---" + "|--:" * len(found) + "|")
    for name in names:
        cells = []
        for c in found:
            entry = next((m for m in c["measurements"] if m["contestant"] == name), None)
            cells.append("–" if entry is None else cell(entry) if entry["status"] == "ok" else entry["status"])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    compiling = (
        next((m.get("first_run_seconds") for m in c["measurements"] if m["contestant"] == "compile"), None)
        for c in found
    )
    lines.append(f"| *compiling, s* | {' | '.join('–' if each is None else f'{each:.1f}' for each in compiling)} |")
    return lines


def cell(entry: dict[str, Any], *, ratio: bool = True) -> str:
    """Median, half the distance between the quartiles, and the ratio."""
    time = entry["microseconds"]
    median = time["median"]
    shown = f"{median:,.0f}" if median >= 100 else f"{median:.1f}"
    spread = (time["upper_quartile"] - time["lower_quartile"]) / 2 / median
    text = f"{shown} ±{100 * spread:.0f} %" if time["samples"] >= FEW else f"{shown} (n={time['samples']})"
    return f"{text} · {entry['ratio']:.2f}" if ratio else text


if __name__ == "__main__":
    main()
