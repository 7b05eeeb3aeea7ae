"""The building blocks of a page: nothing that comes from data is markup."""

from __future__ import annotations

import pytest

from export.page import Html, document, element, folded, table, text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        ("a\x00b\nc", "a b c"),
        ("نی‌ما 👩‍🔬", "نی‌ما 👩‍🔬"),
        (Html("<b>"), "<b>"),
        (None, ""),
        (True, "true"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (123456.78, "123457"),
        (2.0, "2"),
        (float("nan"), "nan"),
    ],
)
def test_value_as_html(value: object, shown: str) -> None:
    assert text(value) == shown


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    found = table(("name", "share", "rows"), [("a", "5.0%", 3), ("b", "", None)])
    assert '<th class="number">share</th><th class="number">rows</th>' in found
    assert "<th>name</th>" in found


def test_table_without_headers_or_rows_is_empty() -> None:
    assert table(("", ""), []) == element("div", element("table"), style="wide")


def test_long_content_is_folded() -> None:
    assert folded("Show <all>", Html("<p>"), is_folded=True).startswith("<details><summary>Show &lt;all&gt;</summary>")
    assert folded("Show", Html("<p>"), is_folded=False) == "<p>"


def test_page_may_load_and_run_nothing() -> None:
    page = document("<title>")
    assert "<title>&lt;title&gt;</title>" in page
    assert "default-src 'none'" in page
