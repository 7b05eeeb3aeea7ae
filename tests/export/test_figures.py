"""Plots: the page's own colours and fonts, any label, any number, the same bytes each time."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from export import figures

PLOTS: dict[str, Callable[[], str]] = {
    "curves": lambda: figures.curves("loss", {"training": [3, 2, 1], "validation": [3, 2, 2.5]}, 2),
    "one epoch": lambda: figures.curves("loss", {"training": [3]}, None),
    "gaps": lambda: figures.curves("loss", {"training": [float("nan")] * 2, "validation": [1e300, -np.inf]}, 1),
    "confusion": lambda: figures.confusion(["a", "b"], np.array([[3, 1], [0, 0]])),
    "confusion of many": lambda: figures.confusion([f"class {n}" for n in range(30)], np.ones((30, 30), int)),
    "other letters": lambda: figures.confusion(["日本語", "$x_1$ <b>&", "a\x00\nb", "x" * 99], np.eye(4, dtype=int)),
    "reliability": lambda: figures.reliability([0.5, 0.9], [0.4, 1.0], [3, 4]),
    "predictions": lambda: figures.predictions([1, 2, 3], [1.5, 2, 1e35], "価格 $"),
    "one prediction": lambda: figures.predictions([0], [0], "y"),
    "residuals": lambda: figures.residuals([0.1, -0.2, 1e35]),
    "equal residuals": lambda: figures.residuals([5, 5, 5]),
}


@pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)
def test_plot_is_well_formed_and_the_same_each_time(draw: Callable[[], str]) -> None:
    text = draw()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert text == draw()


@pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)
def test_plot_has_the_pages_colours_and_fonts(draw: Callable[[], str]) -> None:
    text = draw()
    assert "var(--ink)" in text
    assert not re.findall(r"#[0-9a-f]{6}|font-family|<style|<metadata| width=\"[^\"]*pt\"", text)


def test_labels_are_text_and_no_markup() -> None:
    text = PLOTS["other letters"]()
    assert "日本語" in text
    assert "$x_1$ &lt;b&gt;&amp;" in text
    assert f"{'x' * 17}…" in text


def test_counts_are_written_into_the_matrix() -> None:
    assert "3" in re.findall(r">([^<]*)</text>", figures.confusion(["a", "b"], np.array([[3, 1], [0, 0]])))


@pytest.mark.parametrize(
    ("values", "corner", "opposite"),
    [
        (np.arange(4).reshape(2, 2), 0, 1),
        (np.full((2, 2), 7), 0, 0),
        (np.array([[np.nan, 1], [2, np.inf]]), 0, 1),
    ],
)
def test_picture_reaches_from_black_to_white(values: np.ndarray, corner: float, opposite: float) -> None:
    uri = figures.picture(values)
    image = imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert (image[0, 0, 0], image[1, 1, 0]) == (corner, opposite)


def test_coloured_picture_stays_coloured() -> None:
    uri = figures.picture(np.eye(3)[:, None, :].repeat(2, axis=1))
    image = imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    np.testing.assert_array_equal(image[:, 0, :3], np.eye(3))
