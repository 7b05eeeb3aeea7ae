"""How a SavedModel's inputs are called from Python."""

from __future__ import annotations

import pytest

from export.replay import keywords


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("features", "features"),
        ("sepal length (cm)", "sepal_length__cm_"),
        ("Straße", "Straße"),
        ("größe m²", "größe_m_"),
        ("a/b", "a_b"),
        ("class", "arg_class"),
        ("self", "arg_self"),
        ("200 m", "arg_200_m"),
        ("_id", "arg__id"),
        ("²", "arg__"),
        ("東京", "東京"),
    ],
)
def test_input_has_a_keyword_that_python_takes(name: str, word: str) -> None:
    assert keywords([name]) == {name: word}
    assert word.isidentifier()


def test_names_that_would_share_a_keyword_are_numbered_and_the_one_that_has_it_keeps_it() -> None:
    assert keywords(["a b", "a/b", "a_b"]) == {"a_b": "a_b", "a b": "a_b_2", "a/b": "a_b_3"}


def test_number_behind_a_keyword_takes_no_other_names_place() -> None:
    assert keywords(["a b", "a_b", "a_b_2"]) == {"a_b": "a_b", "a_b_2": "a_b_2", "a b": "a_b_3"}
