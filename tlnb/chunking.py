"""Work in chunks, so that memory stays bounded whatever the number of test points."""

from __future__ import annotations

from collections.abc import Iterator


def chunks(n: int, numbers_each: int, budget: int = 2**22) -> Iterator[slice]:
    """Slices of ``range(n)`` for work that holds ``numbers_each`` numbers for each item.

    A chunk holds at most ``budget`` numbers, but at least one item.
    """
    step = max(1, min(n, budget // max(numbers_each, 1)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
