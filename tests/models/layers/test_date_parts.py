"""`DateParts`, against Python's calendar."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import keras
import numpy as np
import pytest

from models.layers import DateParts


def parts(*texts: str) -> np.ndarray:
    return keras.ops.convert_to_numpy(DateParts()(keras.ops.convert_to_tensor(np.array(texts), "string")))


def test_days_are_pythons() -> None:
    days = [date(1600, 1, 1) + timedelta(days=61 * n) for n in range(4000)]
    found = parts(*(day.isoformat() for day in days))[:, 0]
    np.testing.assert_array_equal(found, [(day - date(1970, 1, 1)).days for day in days])


@pytest.mark.parametrize(
    "text", ["2024-02-29 18:00", "2024-02-29T18:00:59", "2024-02-29T18:00:00.123Z", " 2024-02-29T18:00:00+02:00 "]
)
def test_time_is_a_fraction_of_the_day_and_the_zone_is_read_over(text: str) -> None:
    wanted = (datetime(2024, 2, 29, 18) - datetime(1970, 1, 1)) / timedelta(days=1)
    assert parts(text)[0, 0] == pytest.approx(wanted, abs=2e-3)  # a float32 of 20,000 days


def test_week_year_and_day_are_circles() -> None:
    sunday, next_sunday, monday = parts("2024-03-03", "2024-03-10", "2024-03-04")
    np.testing.assert_array_equal(sunday[3:5], next_sunday[3:5])
    assert (sunday[3:5] != monday[3:5]).any()
    new_year, noon = parts("2023-01-01", "2023-07-01 12:00")
    np.testing.assert_allclose(new_year[1:3], [0, 1], atol=1e-6)  # sine and cosine in float32
    np.testing.assert_allclose(noon[5:7], [0, -1], atol=1e-6)


@pytest.mark.parametrize(
    "text", ["", "soon", "2024-13-01", "2024-01-32", "01.02.2024", "2024-01-01 25:00", "12024-01-01"]
)
def test_what_is_no_date_is_missing(text: str) -> None:
    (found,) = parts(text)
    assert np.isnan(found[0])
    np.testing.assert_array_equal(found[1:], np.zeros(6))


def test_days_that_the_calendar_lacks_are_missing() -> None:
    texts = [
        f"{year}-{month:02}-{day:02}"
        for year in (1900, 2000, 2023, 2024)
        for month in range(1, 13)
        for day in range(28, 32)
    ]
    np.testing.assert_array_equal(np.isnan(parts(*texts)[:, 0]), [not is_day(text) for text in texts])


def is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
