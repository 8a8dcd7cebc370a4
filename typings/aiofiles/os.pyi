from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The wrapper's own `loop` and `executor` are left out: with a ParamSpec they cannot be said, and we give neither.
def wrap(func: Callable[_P, _R]) -> Callable[_P, Coroutine[Any, Any, _R]]: ...
