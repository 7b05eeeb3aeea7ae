"""The building blocks of a page: everything that is not `Html` already is escaped."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c232b; --soft: #5c6773; --rule: #d6dce2; --shade: #f4f6f8;
  --first: #2463b4; --second: #c4472c; }
@media (prefers-color-scheme: dark) { :root { --paper: #13171c; --ink: #e3e8ed; --soft: #98a4b0; --rule: #38414b;
  --shade: #1b2127; --first: #6cabf5; --second: #f2896b; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 66rem; padding: 2.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 2.1rem; line-height: 1.2; letter-spacing: -.02em; overflow-wrap: anywhere; }
h1 span { color: var(--soft); font-weight: 400; }
h2 { margin: 3rem 0 .75rem; padding-top: .9rem; border-top: 1px solid var(--rule); font-size: 1.35rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.02rem; }
p { max-width: 44rem; margin: .5rem 0; }
.soft { color: var(--soft); }
nav { margin-top: 1rem; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; font-size: .92rem; }
a { color: var(--first); text-underline-offset: .15em; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tile { padding: .8rem 1rem; background: var(--shade); border-radius: .6rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile small { display: block; color: var(--soft); font-size: .85rem; line-height: 1.35; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; margin: .75rem 0; }
.plots > * { flex: 1 1 19rem; min-width: 0; }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; max-width: 34rem; font-family: inherit; stroke-linejoin: round; }
.wide { overflow-x: auto; margin: .5rem 0; max-height: 40rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { position: sticky; top: 0; background: var(--paper); color: var(--soft); font-weight: 500; white-space: nowrap; }
td { max-width: 26rem; overflow-wrap: break-word; }
.number { text-align: right; white-space: nowrap; }
.uncut td { white-space: nowrap; max-width: none; }
.narrow td:first-child { color: var(--soft); white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 1rem; margin: .75rem 0; }
.card img { display: block; width: 100%; border-radius: .4rem; }
.card p { margin: .4rem 0 0; font-size: .88rem; line-height: 1.4; }
img { image-rendering: pixelated; min-width: 2.5rem; }
td img { width: 3.5rem; }
.wrong { color: var(--second); font-weight: 600; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--first); }
@media (max-width: 34rem) { body { padding: 1.25rem 1rem 3rem; } h1 { font-size: 1.6rem; }
  .narrow td:first-child { white-space: normal; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --shade: #f2f2f2;
  --first: #2463b4; --second: #c4472c; } body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .wide { overflow: visible; max-height: none; } .card, .tile, svg, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } }
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything as HTML: escaped, numbers in a readable form, None as nothing, control characters as blanks."""
    if isinstance(value, Html):
        return value
    if isinstance(value, bool):
        return Html(str(value).lower())
    if isinstance(value, int):
        return Html(f"{value:,}")
    if isinstance(value, float):
        return Html(_number(value))
    plain = "" if value is None else str(value)
    return Html(
        html.escape("".join(" " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in plain))
    )


def joined(*parts: object) -> Html:
    """Parts one after the other."""
    return Html("".join(map(text, parts)))


def element(name: str, *parts: object, style: str = "") -> Html:
    """An element with the class `style`."""
    attribute = f' class="{style}"' if style else ""
    return Html(f"<{name}{attribute}>{joined(*parts)}</{name}>")


def paragraph(*parts: object, style: str = "") -> Html:
    """A paragraph."""
    return element("p", *parts, style=style)


def section(identifier: str, title: str, *parts: object) -> Html:
    """A part of the page that a link can lead to."""
    return Html(f'<section id="{identifier}"><h2>{text(title)}</h2>{joined(*parts)}</section>')


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], style: str = "") -> Html:
    """A table that scrolls sideways where it is too wide; columns of numbers are aligned to the right."""
    cells = [list(row) for row in rows]
    numeric = [_is_numeric([row[column] for row in cells]) for column in range(len(headers))]
    head = element("tr", *map(_cell, headers, numeric, ["th"] * len(headers))) if any(headers) else ""
    body = (element("tr", *map(_cell, row, numeric, ["td"] * len(row))) for row in cells)
    return element("div", element("table", head, *body, style=style), style="wide")


def folded(title: str, content: Html, *, is_folded: bool) -> Html:
    """Content that a reader opens first, where it is long."""
    return Html(f"<details><summary>{text(title)}</summary>{content}</details>") if is_folded else content


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f}%"


def document(title: str, *parts: object) -> str:
    """A whole page. Its policy lets it load nothing and run nothing, whatever is in it."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{joined(*parts)}\n</body>\n</html>\n"
    )


def _number(value: float) -> str:
    """Four digits, or all of those before the point."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _cell(value: object, is_numeric: bool, name: str) -> Html:
    return element(name, value, style="number" if is_numeric else "")


def _is_numeric(values: list[object]) -> bool:
    """Whether a column holds numbers, or numbers written as text, and nothing else but gaps."""
    known = [value for value in values if value not in {None, ""} and not isinstance(value, Html)]
    return bool(known) and all(_looks_numeric(value) for value in known)


def _looks_numeric(value: object) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int | float) or str(value)[-1] == "%")
