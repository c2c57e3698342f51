"""Small pieces of HTML. Every text that comes from outside passes through `escape`."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Mapping, Sequence

from precond.race.report.numbers import NOTHING, finite, plain


def escape(text: object) -> str:
    """Return text that HTML shows as it is, also inside a quoted attribute."""
    return html.escape(str(text), quote=True)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its header.
        numeric: Whether it is right-aligned and sorts as numbers.
        hint: What the column means, shown when the pointer rests on the header.
    """

    title: str
    numeric: bool = False
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        content: Its HTML, already escaped.
        value: What it sorts by; ``None`` sorts last in either direction.
        kind: A class of the style sheet.
    """

    content: str
    value: object = None
    kind: str = ""


def number_cell(value: float | int | None, text: str | None = None) -> Cell:
    """Return a cell that shows ``text`` (the plain number unless given) and sorts by the number."""
    return Cell(escape(plain(value) if text is None else text), finite(value), "number")


def text_cell(text: object, kind: str = "") -> Cell:
    """Return a cell that shows and sorts by a text."""
    return Cell(escape(text), str(text), kind)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, label: str, sorted_by: int | None = None
) -> str:
    """Return a table that the page can sort; columns without any content are left out.

    Args:
        columns: The columns.
        rows: Cells, one per column.
        label: Name of the table for readers who do not see it.
        sorted_by: Column by which the rows are already in ascending order.

    Returns:
        The table as HTML.
    """
    kept = [at for at in range(len(columns)) if any(row[at].value is not None for row in rows)]
    heads = "".join(_head(columns[at], ascending=at == sorted_by) for at in kept)
    body = "".join(f"<tr>{''.join(_cell(row[at]) for at in kept)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="sortable" aria-label="{escape(label)}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def definitions(entries: Mapping[str, object]) -> str:
    """Return names and values as a list of definitions."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_value(value))}</dd>" for name, value in entries.items())
    return f"<dl>{rows}</dl>" if rows else '<p class="faint">none</p>'


def settings_text(settings: Mapping[str, object]) -> str:
    """Return hyperparameters as ``name = value`` in one line."""
    return ", ".join(f"{name} = {_value(value)}" for name, value in settings.items())


def swatch(colour: int, dash: str) -> str:
    """Return a piece of line in the colour and dash of a contestant."""
    dashes = {"dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3", "longdash": "11 4"}
    pattern = f' stroke-dasharray="{dashes[dash]}"' if dash in dashes else ""
    return (
        f'<svg class="swatch" viewBox="0 0 22 10" style="--c:var(--c{colour})" aria-hidden="true">'
        f'<line x1="0" y1="5" x2="22" y2="5"{pattern}/></svg>'
    )


def toggle(text: str, name: str, *, on: bool) -> str:
    """Return a button that is pressed or not."""
    state = f'data-toggle="{name}" aria-pressed="{str(on).lower()}"'
    return f'<button type="button" class="toggle" {state}>{escape(text)}</button>'


def chips(entries: Iterable[tuple[str, str]]) -> str:
    """Return short facts side by side."""
    items = "".join(f"<li>{escape(name)} <b>{escape(value)}</b></li>" for name, value in entries if value)
    return f'<ul class="chips">{items}</ul>'


def _head(column: Column, *, ascending: bool) -> str:
    kind = ' class="number" data-kind="number"' if column.numeric else ' data-kind="text"'
    hint = f' title="{escape(column.hint)}"' if column.hint else ""
    order = "ascending" if ascending else "none"
    return f'<th scope="col" aria-sort="{order}"{kind}{hint}><button type="button">{escape(column.title)}</button></th>'


def _cell(cell: Cell) -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ""
    value = "" if cell.value is None else escape(repr(cell.value) if isinstance(cell.value, float) else cell.value)
    return f'<td{kind} data-value="{value}">{cell.content}</td>'


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value(entry) for entry in value)
    return NOTHING if value == "" else plain(value)
