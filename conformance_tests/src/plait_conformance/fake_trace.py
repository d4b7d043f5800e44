"""The trace of a fake store: every call that the core made, and none after close."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the core made."""

    name: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]


class Traced(Protocol):
    """What keeps a trace."""

    trace: list[Call]
    closed: bool

    def reach(self) -> None: ...


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=Traced)


def traced(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Keep the call in the trace, refuse it once the adapter is closed, and fail it while the store is down."""

    @functools.wraps(method)
    def call(self: T, *args: P.args, **kwargs: P.kwargs) -> R:
        assert not self.closed, f"{method.__name__} was called after close"
        self.trace.append(Call(method.__name__, args, kwargs))
        self.reach()
        return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[T, P], R]", call)
