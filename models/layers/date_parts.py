"""The layer that reads dates."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras import Layer

from models.problem import DATE_PATTERN
from models.registry import register_layer


@register_layer
class DateParts(Layer):
    """Turns dates as text, `2024-02-29` or `2024-02-29 13:45`, into numbers.

    Args:
        **kwargs: `name`, `dtype`, `trainable` and `autocast`, as for every layer.

    Input shape: `(batch,)`, strings.
    Output shape: `(batch, 7)`: the days since 1970 with the time as a fraction, then sine and cosine of the place in
    the year, in the week and in the day. What is no date gives NaN for the days, and 0 for the rest.
    """

    def call(self, inputs: Any) -> Any:
        inputs = tf.strings.strip(inputs)
        is_date = tf.strings.regex_full_match(inputs, DATE_PATTERN)
        text = tf.where(is_date, inputs, tf.constant("1970-01-01"))
        text = tf.strings.join([text, tf.constant(" 00:00")])  # a date without a time is midnight
        year, month, day, hour, minute = (
            tf.strings.to_number(tf.strings.substr(text, start, length), tf.int32)
            for start, length in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2))
        )
        days = _days_since_1970(year, month, day)
        time = tf.cast(hour * 60 + minute, tf.float32) / 1440.0
        turns = [tf.cast(_day_of_year(month, day), tf.float32) / 366.0, tf.cast((days + 4) % 7, tf.float32) / 7.0, time]
        waves = [wave(2.0 * math.pi * turn) for turn in turns for wave in (tf.sin, tf.cos)]
        parts = [tf.where(is_date, tf.cast(days, tf.float32) + time, math.nan)]
        parts += [tf.where(is_date, wave, 0.0) for wave in waves]
        return tf.cast(tf.stack(parts, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, 7)


def _days_since_1970(year: Any, month: Any, day: Any) -> Any:
    """Of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil)."""
    year = tf.where(month <= 2, year - 1, year)
    era = year // 400
    year_of_era = year - era * 400
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + _day_from_march(month, day)
    return era * 146097 + day_of_era - 719468


def _day_from_march(month: Any, day: Any) -> Any:
    return (153 * ((month + 9) % 12) + 2) // 5 + day - 1


def _day_of_year(month: Any, day: Any) -> Any:
    """From 0 on 1 January; every year has a 29 February."""
    return (_day_from_march(month, day) + 60) % 366
