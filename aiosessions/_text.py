"""What applications give as text: it has to be text, and of a bounded size."""

from aiosessions._errors import EncodeError


def check_text(what: str, text: object) -> None:
    """Raise EncodeError unless *text* is a str that can be written."""
    if not isinstance(text, str):
        raise EncodeError(f"the {what} must be a str, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"the {what} holds a lone surrogate, which is no text") from None


def check_user_id(user_id: object) -> None:
    """Raise TypeError or ValueError for what is no user id."""
    if user_id is None:
        raise TypeError("user_id must be a str, not None: clear_user() unbinds")
    if not isinstance(user_id, str):
        raise TypeError(f"user_id must be a str, not {type(user_id).__name__}: write set_user(str(user.id))")

    try:
        size = len(user_id.encode())
    except UnicodeEncodeError:
        raise ValueError("user_id holds a lone surrogate, which is no text") from None
    if not 1 <= size <= 255:
        raise ValueError(f"user_id takes {size} bytes: give 1 to 255")
    if "\0" in user_id:
        raise ValueError("user_id holds a NUL")


def check_label(label: object) -> None:
    """Raise TypeError, ValueError or EncodeError for what is no label."""
    if label is None:
        return
    if not isinstance(label, str):
        raise TypeError(f"label must be a str, not {type(label).__name__}")
    if len(label) > 200:
        raise ValueError(f"label has {len(label)} characters, and 200 is the most")
    check_text("label", label)
