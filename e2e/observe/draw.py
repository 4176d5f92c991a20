"""Draws the panels of the chart's dashboards: draw.py ANSWERS DIRECTORY

ANSWERS is what `cargo xtask observe dashboards --answers` writes: for each dashboard its panels, their places in Grafana's
grid of 24 columns, and the answers of a Prometheus.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

COLUMNS = 24
INCHES_PER_COLUMN = 0.5
INCHES_PER_ROW = 0.36
DPI = 80
# More lines of a legend or a table do not fit; how many there are is written instead.
LEGEND = 9
ROWS = 10
# Minutes without a sample after which a line is interrupted.
GAP = 0.2
# Labels of a table's row that say nothing about it.
HIDDEN = {"__name__"}


def main(answers: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for dashboard in json.loads(answers.read_text()):
        picture = directory / f"{dashboard['name']}.png"
        draw(dashboard, picture)
        # Few colours: a picture of lines and letters is a fifth of the size.
        Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)
        print(f"{picture}: {picture.stat().st_size // 1024} KiB")


def draw(dashboard: dict, picture: Path) -> None:
    places = [panel["place"] for panel in dashboard["panels"]]
    rows = max(place["y"] + place["h"] for place in places)
    figure = plt.figure(figsize=(COLUMNS * INCHES_PER_COLUMN, rows * INCHES_PER_ROW + 0.5))
    figure.suptitle(dashboard["title"], x=0.02, ha="left", fontsize=13, fontweight="bold")
    top = 1 - 0.5 / figure.get_size_inches()[1]
    for panel in dashboard["panels"]:
        place = panel["place"]
        x, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        y, height = top * (1 - (place["y"] + place["h"]) / rows), top * place["h"] / rows
        axes = figure.add_axes((x + 0.045, y + 0.17 * height, width - 0.06, 0.66 * height))
        axes.set_title(panel["title"], loc="left", fontsize=9)
        axes.tick_params(labelsize=7)
        {"timeseries": lines, "stat": number, "table": table}[panel["view"]](axes, panel)
    figure.savefig(picture, dpi=DPI)
    plt.close(figure)


def lines(axes, panel: dict) -> None:
    series = panel["series"]
    if not series:
        return nothing(axes)
    start = min(at for line in series for at, _ in line["samples"])
    for line in series:
        times, values = [], []
        for at, number in line["samples"]:
            minutes = (at - start) / 60
            if times and minutes - times[-1] > GAP:
                times.append(minutes)
                values.append(float("nan"))
            times.append(minutes)
            values.append(number)
        # A line of a single sample is a point.
        marker = "." if len(times) == 1 else None
        axes.plot(times, values, marker=marker, lw=1.1, label=line["legend"])
    axes.grid(alpha=0.3)
    largest = max(number for line in series for _, number in line["samples"])
    axes.set_ylim(bottom=0, top=1.08 * largest if largest > 0 else 1)
    axes.set_xlabel("minutes", fontsize=7, loc="right", labelpad=0)
    axes.set_ylabel({"s": "seconds", "reqps": "per second"}.get(panel["unit"], ""), fontsize=7)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > LEGEND:
        labels[LEGEND - 1] = f"and {len(labels) - LEGEND + 1} more"
        handles[LEGEND - 1] = matplotlib.lines.Line2D([], [], alpha=0)
    axes.legend(handles[:LEGEND], labels[:LEGEND], fontsize=6, loc="upper left", framealpha=0.6)


def number(axes, panel: dict) -> None:
    axes.axis("off")
    shown = [(line["legend"], value(line["samples"][-1][1], panel["unit"])) for line in panel["series"]]
    for index, (legend, text) in enumerate(shown):
        x = (index + 0.5) / len(shown)
        axes.text(x, 0.55, text, ha="center", va="center", fontsize=20, color="tab:green")
        axes.text(x, 0.15, legend, ha="center", va="center", fontsize=7)
    if not shown:
        nothing(axes)


def table(axes, panel: dict) -> None:
    axes.axis("off")
    series = panel["series"]
    if not series:
        return nothing(axes)
    names = [name for name in series[0]["labels"] if name not in HIDDEN]
    cells = [
        [line["labels"].get(name, "") for name in names] + [value(line["samples"][-1][1], panel["unit"])] for line in series
    ]
    if len(cells) > ROWS:
        cells = cells[: ROWS - 1] + [[f"and {len(cells) - ROWS + 1} more"] + [""] * len(names)]
    drawn = axes.table(cells, colLabels=[*names, "value"], loc="upper left", cellLoc="left", edges="horizontal")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(6)
    drawn.auto_set_column_width(range(len(names) + 1))


def nothing(axes) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=9, color="gray")


def value(number: float, unit: str) -> str:
    if unit == "s":
        return str(timedelta(seconds=round(number)))
    return f"{number:g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
