"""Many values as a few lists of bounded size, each of which fits into one message."""

from collections.abc import Callable, Iterable, Iterator


def by_size[T](values: Iterable[T], size_of: Callable[[T], int], *, limit: int) -> Iterator[list[T]]:
    """The values in their order, in lists of `limit` bytes at most, or of one value that is larger."""
    batch: list[T] = []
    size = 0
    for value in values:
        more = size_of(value)
        if batch and size + more > limit:
            yield batch
            batch, size = [], 0
        batch.append(value)
        size += more
    if batch:
        yield batch
