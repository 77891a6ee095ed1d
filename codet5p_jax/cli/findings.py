"""What `codet5p doctor` finds: each finding one line, with the command that mends it."""

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class Severity(enum.StrEnum):
    """How bad a finding is; only a problem fails the command."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.PROBLEM: "bold red"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        severity: Whether it is well.
        subject: What was checked, in a word or two.
        what: What was found, one line.
        mend: Shell command that mends it, or what to do where no command can; None if all is well.
    """

    severity: Severity
    subject: str
    what: str
    mend: str | None = None


def ok(subject: str, what: str) -> Finding:
    """Returns a finding that needs nothing."""
    return Finding(Severity.OK, subject, what)


def warning(subject: str, what: str, *, mend: str) -> Finding:
    """Returns a finding that some commands may stumble over."""
    return Finding(Severity.WARNING, subject, what, mend)


def problem(subject: str, what: str, *, mend: str) -> Finding:
    """Returns a finding that keeps `codet5p` from working."""
    return Finding(Severity.PROBLEM, subject, what, mend)


def last_line(text: str) -> str:
    """Returns the last line of an error's text that says something, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def as_json(sections: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """Returns the findings as JSON values, and how many of them are bad."""
    found = [finding for findings in sections.values() for finding in findings]
    return {
        "problems": _count(found, Severity.PROBLEM),
        "warnings": _count(found, Severity.WARNING),
        "findings": [
            {"section": section, **dataclasses.asdict(finding)}
            for section, findings in sections.items()
            for finding in findings
        ],
    }


def print_findings(sections: Mapping[str, Sequence[Finding]], console: "Console") -> None:
    """Prints sections of findings and a last line that counts them."""
    found = [finding for findings in sections.values() for finding in findings]
    width = max((len(finding.subject) for finding in found), default=0)
    for section, findings in sections.items():
        console.print(f"\n[bold]{section}[/bold]")
        for finding in findings:
            _print_finding(finding, console, width)
    problems, warnings = (_count(found, each) for each in (Severity.PROBLEM, Severity.WARNING))
    console.print(f"\n{len(found)} checks: {_plural(problems, 'problem')}, "
                  f"{_plural(warnings, 'warning')}", highlight=False)  # fmt: skip


def _print_finding(finding: Finding, console: "Console", width: int) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=len(Severity.PROBLEM) + 2)
    grid.add_column(width=width)
    grid.add_column(ratio=1, overflow="fold")
    mark = Text(f"  {finding.severity}", style=_STYLES[finding.severity])
    grid.add_row(mark, Text(finding.subject), Text(finding.what))
    console.print(grid)
    if finding.mend is not None:  # unwrapped, so that a command can be copied whole
        line = Text.assemble("    mend: ", (finding.mend, "cyan"))
        console.print(line, soft_wrap=True)


def _count(findings: Iterable[Finding], severity: Severity) -> int:
    return sum(finding.severity is severity for finding in findings)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
