"""Values whose `repr` tells no secret: tracebacks and logs may show local variables."""

from typing import ClassVar

import msgspec


class Discreet(msgspec.Struct, frozen=True, gc=False):
    """A frozen Struct, invisible to the garbage collector, that shows the fields it names and no other.

    Attributes:
        shown: their names. A Struct's own `repr`, and what `rich` asks it for, would show every field.
    """

    shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in self.shown]
