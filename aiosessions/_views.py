"""What a Transport needs of a request and of a response, and nothing more."""

from collections.abc import Iterable
from typing import Protocol


class RequestView(Protocol):
    """A request, as a Transport reads it."""

    @property
    def scheme(self) -> str:
        """`http`, `https`, `ws` or `wss`, as far as the server knows."""
        ...

    def header(self, name: str) -> list[str]:
        """Every value of the header *name* (given in lower case), one per header line, as sent."""
        ...


class ResponseView(Protocol):
    """A response's headers, as a Transport writes them."""

    def header(self, name: str) -> list[str]:
        """Every value of the header *name*, one per header line."""
        ...

    def add(self, name: str, value: str) -> None:
        """Append one header line."""
        ...

    def replace(self, name: str, values: Iterable[str]) -> None:
        """Put these lines in the place of all lines called *name*."""
        ...
