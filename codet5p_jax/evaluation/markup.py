"""Builds HTML from values: every string is escaped unless it is already `Markup`."""

import html
from collections.abc import Iterable, Sequence
from typing import final

_VOID = frozenset({"br", "circle", "line", "path", "rect"})


@final
class Markup(str):
    """HTML that is safe to insert as it stands; made by the functions of this module only."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Returns element `name`; children that are no Markup are escaped, None is left out.

    Attribute names: a trailing underscore is dropped, other underscores become hyphens.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """Returns the children one after another, each escaped unless it is Markup."""
    return Markup("".join(_escape(child) for child in children if child is not None))


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str | None = None,
    text_columns: int = 1,
) -> Markup:
    """Returns a table that scrolls sideways in itself when the window is narrow.

    Args:
        header: Names of the columns, with units.
        rows: Cells of each row.
        caption: A remark that stands below the table.
        text_columns: Leading columns set flush left; the others hold numbers, flush right.
    """
    kinds = ["text" if column < text_columns else "number" for column in range(len(header))]
    head = tag("tr", *(_cell("th", c, k) for c, k in zip(header, kinds, strict=True)))
    body = [
        tag("tr", *(_cell("td", c, k) for c, k in zip(row, kinds, strict=True))) for row in rows
    ]
    inner = tag("table", tag("thead", head), tag("tbody", *body))
    scrolling = tag("div", inner, class_="scroll", tabindex="0")
    # Below the scrolling part, not a <caption> in it: on a phone it would be cut off.
    return join([scrolling, tag("p", caption, class_="note") if caption else None])


def definitions(items: Iterable[tuple[str, object]]) -> Markup:
    """Returns a list of names and values; None and empty values are left out."""
    shown = [(name, value) for name, value in items if value not in (None, "")]
    return tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in shown))


def folded(summary: str, *children: object) -> Markup:
    """Returns the children under a line that opens them."""
    return tag("details", tag("summary", summary), *children)


def shown_number(value: object) -> str:
    """Returns a number with thousands separated, a dash for None, other values as text."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(name: str, content: object, kind: str) -> Markup:
    return tag(name, content, class_=kind, scope="col" if name == "th" else None)


def _escape(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(_printable(str(child)))


def _printable(text: str) -> str:
    """Shows control characters and lone surrogates, which no HTML page may hold, as U+FFFD."""
    return "".join(
        "\ufffd" if (c < " " and c not in "\t\n\r") or "\x7f" <= c <= "\x9f" or _lone(c) else c
        for c in text
    )


def _lone(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"
