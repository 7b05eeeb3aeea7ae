"""The rows that wait for a runtime: in what order they come out, and how many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from service.tickets import Part, Ticket

T = TypeVar("T")


class RowQueue(Generic[T]):
    """Tickets in the order of their turns. Only tickets with the same `key` come out together.

    A ticket that fits a batch is never cut. A longer one gives what fits and goes to the end, behind all that waited
    with it; different keys take turns.

    Args:
        most_rows: That may wait. One ticket of more is let in where none waits, and takes no room from shorter ones.
    """

    __slots__ = ("_groups", "_most_rows", "_oversize", "rows")

    def __init__(self, most_rows: int) -> None:
        self._groups: dict[tuple[tuple[int, ...], ...], dict[Ticket[T], None]] = {}
        self._most_rows = most_rows
        self._oversize: Ticket[T] | None = None
        self.rows = 0
        """Those that have not been taken out."""

    def __iter__(self) -> Iterator[Ticket[T]]:
        for group in self._groups.values():
            yield from group

    def has_room(self, rows: int) -> bool:
        """Whether a ticket of so many rows may be added."""
        waiting = self.rows
        if self._oversize and rows <= self._most_rows:
            waiting -= self._oversize.rows - self._oversize.taken
        return not waiting or waiting + rows <= self._most_rows

    def add(self, ticket: Ticket[T]) -> None:
        """Lets a ticket wait behind the others of its key; there must be room."""
        if ticket.rows > self._most_rows:
            self._oversize = ticket
        group = self._groups.get(ticket.key)
        if group is None:
            group = self._groups[ticket.key] = {}
        group[ticket] = None
        self.rows += ticket.rows

    def discard(self, ticket: Ticket[T]) -> None:
        """Takes out what is left of a ticket, if anything is."""
        group = self._groups.get(ticket.key)
        if group is None or ticket not in group:
            return
        if ticket is self._oversize:
            self._oversize = None
        del group[ticket]
        self.rows -= ticket.rows - ticket.taken
        if not group:
            del self._groups[ticket.key]

    def first(self) -> Ticket[T]:
        """The ticket whose turn is next; there must be one."""
        return next(iter(next(iter(self._groups.values()))))

    def take(self, most_rows: int) -> list[Part[T]]:
        """The parts of the next batch; there must be a ticket."""
        key, group = next(iter(self._groups.items()))
        parts: list[Part[T]] = []
        space = most_rows
        for ticket in group:
            start, count = ticket.taken, ticket.rows - ticket.taken
            if count > space:
                if count <= most_rows or not space:  # it fits the next batch whole, or must wait for its turn
                    break
                count = space
            ticket.taken = start + count
            space -= count
            parts.append((ticket, start, start + count))
        self.rows -= most_rows - space
        for ticket, _, stop in parts:
            del group[ticket]
            if stop < ticket.rows:
                group[ticket] = None
            elif ticket is self._oversize:
                self._oversize = None
        del self._groups[key]
        if group:
            self._groups[key] = group
        return parts

    def take_one(self) -> list[Part[T]]:
        """The next ticket whole, as a batch of its own; there must be one."""
        ticket = self.first()
        self.discard(ticket)
        ticket.taken = ticket.rows
        return [(ticket, 0, ticket.rows)]
