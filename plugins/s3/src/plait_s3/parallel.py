"""Work on many objects at once: requests and fsyncs wait, so several threads do more than one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_THREADS_MAX: Final = 16
_CHUNK_MAX: Final = 64

T = TypeVar("T")
U = TypeVar("U")


def side_by_side(
    work: Callable[[T], U], items: Iterable[T], report: Callable[[int], None] = lambda done: None
) -> list[U]:
    """The answers, in the order of the items; the first error is raised once those that run have ended.

    `report` hears in this thread, now and then, how many are done; what it raises stops the work.
    """
    todo = list(items)
    # Handing over costs as much as a small file, so many items go in chunks.
    size = max(1, min(_CHUNK_MAX, len(todo) // (4 * _THREADS_MAX)))
    parts = [todo[start : start + size] for start in range(0, len(todo), size)]

    def work_all(part: Sequence[T]) -> list[U]:
        return [work(item) for item in part]

    answers: list[U] = []
    if len(parts) < 2:
        return [answer for part in parts for answer in work_all(part)]
    with ThreadPoolExecutor(min(_THREADS_MAX, len(parts)), thread_name_prefix="plait-objects") as pool:
        try:
            for done in pool.map(work_all, parts):
                answers += done
                report(len(answers))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return answers
