"""How quick models are: images a second by model, engine and batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.figures.style import colour, new_figure, plain_axes, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_DASHES = ("-", (0, (4, 2)), (0, (1, 1)))


def plot_latency(rows: pd.DataFrame) -> Figure:
    """Return images a second over the batch size: a colour a model, a kind of line an engine.

    Where rows have scores, a second part shows the score over the milliseconds of an image, in the smallest batch.

    Args:
        rows: columns run, model, size, engine, batch, ms, img/s and score.
    """
    scored = rows[rows["score"].notna()]
    parts = 1 if scored.empty else 2
    figure, axes = new_figure(5.5 * parts, 4.2, parts)
    names = rows["run"].where(rows["run"] != "", rows["model"])
    hues = {name: colour(number) for number, name in enumerate(dict.fromkeys(names))}
    dashes = {engine: _DASHES[number % len(_DASHES)] for number, engine in enumerate(dict.fromkeys(rows["engine"]))}
    for (name, size, engine), of_one in rows.groupby([names, "size", "engine"], sort=False):
        (line,) = axes[0].plot(of_one["batch"], of_one["img/s"], marker="o", markersize=4, color=hues[name])
        line.set(linestyle=dashes[engine], label=f"{short(name)} {size} {engine}")
    axes[0].set_xscale("log", base=2)
    sizes = sorted(set(rows["batch"]))
    axes[0].set_xticks(sizes, [str(size) for size in sizes])
    axes[0].set_ylim(bottom=0)
    axes[0].set_xlabel("images a batch")
    axes[0].set_ylabel("images a second")
    axes[0].legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1.01))
    if parts == 2:
        smallest = scored[scored["batch"] == scored["batch"].min()]
        for place, row in smallest.iterrows():
            at, label = (row["ms"] / row["batch"], row["score"]), f"{short(names[place])} {row['engine']}"
            axes[1].plot(*at, "o", color=hues[names[place]])
            axes[1].annotate(label, at, xytext=(5, 4), textcoords="offset points", fontsize=7)
        axes[1].set_xlim(left=0)
        axes[1].set_xlabel(f"milliseconds an image, {smallest['batch'].min()} a batch")
        axes[1].set_ylabel("out-of-fold score")
    for one in axes:
        plain_axes(one, grid="both")
    return figure
