"""What the shop sells, and what its two sessions keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from aiosessions import Merge

__all__ = ["PRODUCTS", "THEMES", "Cart", "Preferences", "device_name", "put"]

PRODUCTS: Mapping[str, int] = {"tea": 350, "cake": 420, "honey": 690}
"""What there is, and its price in cents."""

THEMES = ("auto", "light", "dark")

# The first that is found: each of these also calls itself by those below it.
_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Chrom", "Chrome"), ("Firefox", "Firefox"), ("Safari", "Safari"))
_SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux")


@dataclass
class Cart:
    """What the session "shop" keeps on the server."""

    items: dict[str, Annotated[int, Merge.ADD]] = field(default_factory=dict[str, int])
    """How many of each; of two requests that add at once both count."""


@dataclass
class Preferences:
    """What the session "prefs" keeps in an encrypted cookie."""

    theme: str = "auto"


def put(cart: Cart, product: str) -> bool:
    """Put one of a product into a cart; False if there is no such product."""
    if product not in PRODUCTS:
        return False

    cart.items[product] = cart.items.get(product, 0) + 1
    return True


def device_name(user_agent: str) -> str:
    """What people call a browser: nothing of what it sent itself is kept."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "A browser")
    system = next((name for name in _SYSTEMS if name in user_agent), "")
    return f"{browser} on {system}" if system else browser
