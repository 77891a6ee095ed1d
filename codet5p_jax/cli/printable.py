"""Text of strangers on a terminal: control characters are shown, not obeyed."""


def printable(text: str) -> str:
    """Returns `text` with control characters but tabs and line ends as U+FFFD, each.

    Line ends of Windows become plain ones. Source code may hold escape sequences, which move the
    cursor or rename the window.
    """
    text = text.replace("\r\n", "\n")
    return "".join("\ufffd" if _controls(character) else character for character in text)


def _controls(character: str) -> bool:
    return (character < " " and character not in "\t\n") or "\x7f" <= character <= "\x9f"
