"""Plots and pictures for the report: SVG in the page's own colours and fonts, and PNG for rows that are pictures.

Colours are written as marks that the page's style sheet gives a meaning, so that one plot suits a light page, a dark
one and paper. The same data give the same bytes.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

Series = Sequence[float]

_PAPER, _SHADE, _INK, _RULE, _FIRST, _SECOND = (f"#01020{digit}" for digit in range(6))
_MARKS = {
    _PAPER: "--paper",
    _SHADE: "--shade",
    _INK: "--ink",
    _RULE: "--rule",
    _FIRST: "--first",
    _SECOND: "--second",
}
_NO_SOFTWARE: dict[str, Any] = {"Software": None}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "layerserve",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_MAX_LABEL = 18
_MAX_COUNTED = 15
_MAX_TICKS = 5
_MAX_NUMBER = 1e30


def curves(title: str, series: dict[str, Series], best: int | None) -> str:
    """One or two series of figures by epoch, from 1; a line marks the epoch `best`, whose weights were kept."""

    def draw(axes: Axes) -> None:
        for (name, values), colour in zip(series.items(), (_FIRST, _SECOND), strict=False):
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, _drawable(values), color=colour, label=name, marker="o" if len(values) == 1 else "")
        if best:
            axes.axvline(best, color=_INK, linewidth=0.8, linestyle=":", label=f"kept: epoch {best}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return _svg(draw, title, (5.4, 3.6))


def confusion(labels: Sequence[str], counts: np.ndarray) -> str:
    """The confusion matrix of shape (classes, classes); the shade of a cell is its share of the row's class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(labels)

    def draw(axes: Axes) -> None:
        for (row, column), share in np.ndenumerate(shares):
            colour = _SHADE if not share else _FIRST if row == column else _SECOND
            alpha = 0.1 + 0.85 * share if share else 1
            axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=colour, alpha=alpha))
            if counts[row, column] and size <= _MAX_COUNTED:
                axes.annotate(
                    f"{counts[row, column]}",
                    (column, row),
                    ha="center",
                    va="center",
                    color=_PAPER if share > 0.5 else _INK,
                    fontsize=9 if size > 8 else 10,
                )
        names = [_shortened(label) for label in labels]
        is_long = size > 8 or max(map(len, names)) > 5
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xlabel="answer", ylabel="class")
        axes.set_xticks(range(size), names, rotation=90 if is_long and max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(size), names)
        axes.tick_params(length=0, labelsize=8 if size > _MAX_COUNTED else 9)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    side = min(max(4.2, 0.42 * size + 1.2), 8.5)
    return _svg(draw, "Confusion matrix", (side, side))


def reliability(confidence: Series, accuracy: Series, rows: Series) -> str:
    """The share that was right by the probability of the answer, with how many rows there were below."""

    def draw(axes: Axes) -> None:
        largest = max(rows, default=1)
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":", label="as sure as right")
        axes.bar(confidence, [0.25 * count / largest for count in rows], 0.05, color=_FIRST, alpha=0.25, label="rows")
        axes.plot(confidence, accuracy, color=_FIRST, linewidth=0.8, marker="o", markersize=5, label="this model")
        axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="probability of the answer", ylabel="share that was right")
        axes.legend(loc="upper left")

    return _svg(draw, "Calibration", (4.6, 4.2))


def predictions(targets: Series, answers: Series, target: str) -> str:
    """Answers over true values; on the line the model is right."""

    def draw(axes: Axes) -> None:
        true, given = _drawable(targets), _drawable(answers)
        ends = [min(true.min(), given.min()), max(true.max(), given.max())]
        axes.plot(ends, ends, color=_INK, linewidth=0.8, linestyle=":", label="right")
        axes.plot(true, given, color=_FIRST, alpha=0.45, marker="o", markersize=4, markeredgewidth=0, linestyle="")
        axes.set_xlabel(f"true {_shortened(target)}")
        axes.set_ylabel("answer")
        axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS))
        axes.legend()

    return _svg(draw, "Answers and true values", (4.8, 4.2))


def residuals(errors: Series) -> str:
    """How often the answer misses by how much; above 0 it was too large."""

    def draw(axes: Axes) -> None:
        axes.hist(_drawable(errors), bins=min(30, 5 + len(errors) // 10), color=_FIRST, alpha=0.75)
        axes.axvline(0, color=_INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel="answer - true value", ylabel="rows")
        axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS))

    return _svg(draw, "Residuals", (4.8, 4.2))


def picture(values: np.ndarray) -> str:
    """A row as a PNG in a data URI: shape (height, width) in gray, black the smallest, or (height, width, 3)."""
    numbers = np.nan_to_num(np.asarray(values, dtype=np.float64), posinf=_MAX_NUMBER, neginf=-_MAX_NUMBER)
    low, high = numbers.min(), numbers.max()
    scaled = ((numbers - low) / (high - low if high > low else 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    imsave(file, scaled, format="png", cmap="gray", vmin=0, vmax=255, metadata=_NO_SOFTWARE)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _svg(draw: Callable[[Axes], None], title: str, size: tuple[float, float]) -> str:
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The page's font draws them: it need not be one that is here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inlined(file.getvalue(), title)


def _inlined(text: str, title: str) -> str:
    """An SVG file as an element of a page: as wide as there is room, with the page's fonts and colours."""
    text = _LEFT_OUT.sub("", text[text.index("<svg") :])
    text = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', rf'<svg \1role="img" aria-label="{title}"', text, count=1
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for mark, name in _MARKS.items():
        text = text.replace(mark, f"var({name})")
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _drawable(values: Series) -> np.ndarray:
    """Numbers that a plot has room for; what is none leaves a gap."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), np.clip(numbers, -_MAX_NUMBER, _MAX_NUMBER), np.nan)


def _shortened(text: str) -> str:
    plain = " ".join(
        "".join(" " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in text).split()
    )
    return plain if len(plain) <= _MAX_LABEL else f"{plain[: _MAX_LABEL - 1]}…"
