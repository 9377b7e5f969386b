"""Plots of several runs: a score over the epochs, and against what it costs."""

from collections.abc import Mapping, Sequence

from bixt3d.viz.picture import INK, to_png
from bixt3d.viz.plots import SEVERAL, style_axes, write_ends


def comparison_png(curves: Mapping[str, Sequence[tuple[float, float]]], title: str, percent: bool = True) -> bytes:
    """Return a plot of one score of several runs: pairs of epoch and value by name of the run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8.2, max(4.2, 0.32 * len(curves))), layout="constrained")
    axes, ends = figure.subplots(), []
    for place, (name, pairs) in enumerate(curves.items()):
        color, dash = SEVERAL[place % len(SEVERAL)], ("-", "--", ":")[place // len(SEVERAL) % 3]
        epochs, values = zip(*pairs, strict=True)
        values = [100 * value if percent else value for value in values]
        axes.plot(epochs, values, dash, color=color, linewidth=1.6, zorder=3)
        axes.plot(epochs[-1], values[-1], "o", color=color, markersize=4.5, zorder=4)
        last = f"{values[-1]:.1f} %" if percent else f"{values[-1]:.3f}"
        ends.append((values[-1], f"{name} {last}", color))
    axes.set_title(title, loc="left", color=INK, fontweight="bold")
    style_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=(1, 2, 5, 10), min_n_ticks=1))
    axes.set_xlabel("epoch", color=INK)
    write_ends(axes, ends)
    return to_png(figure)


def cost_png(
    panels: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, tuple[float, float]],
    title: str,
    percent: bool = True,
) -> bytes:
    """Return a plot of a score against costs, which have logarithmic axes: a panel for each kind of cost.

    ``panels``: the cost of each run, by the title of its axis; ``scores``: mean and standard deviation by name of run.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, factor = Figure(figsize=(5.6 * len(panels), 4.4), layout="constrained"), 100 if percent else 1
    for axes, (title_of_cost, costs) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, cost in costs.items():
            mean, deviation = (factor * value for value in scores[name])
            color = SEVERAL[list(scores).index(name) % len(SEVERAL)]  # a run has one color in all panels
            axes.errorbar(cost, mean, deviation or None, fmt="o", color=color, markersize=6, capsize=3, zorder=3)
            left = cost**2 > min(costs.values()) * max(costs.values())  # in the right half: the name ends at the point
            place, align = ((-7, 5), "right") if left else ((7, 5), "left")
            words = {"textcoords": "offset points", "ha": align, "color": color, "fontsize": 9, "parse_math": False}
            axes.annotate(name, (cost, mean), place, **words)
        style_axes(axes)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(costs.values()) / 2.5, max(costs.values()) * 2.5)
        axes.margins(y=0.15)
        axes.set_xlabel(title_of_cost, color=INK)
        axes.set_title(title, loc="left", color=INK, fontweight="bold")
    return to_png(figure)
