"""Text of strangers on a terminal: control characters are shown, not obeyed."""

import sys


def printable(text: str) -> str:
    """Returns `text` with control characters but tabs and line ends as U+FFFD, each.

    Line ends of Windows become plain ones. Source code may hold escape sequences, which move the
    cursor or rename the window.
    """
    text = text.replace("\r\n", "\n")
    return "".join("\ufffd" if _controls(character) else character for character in text)


def shown(text: str) -> str:
    """Returns `text` as standard output should get it: as it is, unless that is a terminal."""
    return printable(text) if sys.stdout.isatty() else text


def _controls(character: str) -> bool:
    return (character < " " and character not in "\t\n") or "\x7f" <= character <= "\x9f"
