"""From one source file to its records, and the reasons of what is left out."""

import collections
import dataclasses

from codet5p_jax.corpus.deduplication import Entry, entry_of
from codet5p_jax.corpus.filters import Filters, first_reason
from codet5p_jax.corpus.parsing import ParsedFunction, parse_functions
from codet5p_jax.corpus.records import CodeFile, CodeFunction, SourceFile, code_id
from codet5p_jax.corpus.splits import hashed_split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extracted:
    """What came of one file.

    Attributes:
        files: The file itself as an entry of `code_files`, or nothing.
        functions: Entries of `code_functions`.
        rejections: How often each reason left something out.
    """

    files: list[Entry]
    functions: list[Entry]
    rejections: collections.Counter[str]


def extract(file: SourceFile, *, split: str | None, filters: Filters) -> Extracted:
    """Returns the records of a file that passed the filters of files.

    Args:
        file: The file.
        split: Its split; None: by the hash of its repository and path.
        filters: Those of whole files, functions and documentation are applied.
    """
    split = split or hashed_split(f"{file.repository}/{file.path}")
    rejections: collections.Counter[str] = collections.Counter()
    reason = first_reason(filters.whole_files, file)
    rejections.update([] if reason is None else [reason])
    files = [] if reason else [entry_of(_file_record(file), split=split, position=0)]
    functions = []
    for position, parsed in enumerate(parse_functions(file.content, file.language)):
        kept, reasons = _filtered(parsed, filters)
        rejections.update(reasons)
        if kept is not None:
            record = _function_record(kept, file)
            functions.append(entry_of(record, split=split, position=position))
    return Extracted(files=files, functions=functions, rejections=rejections)


def _filtered(
    parsed: ParsedFunction, filters: Filters
) -> tuple[ParsedFunction | None, tuple[str, ...]]:
    """The function, without its documentation if that fails; None if the function fails."""
    reason = first_reason(filters.functions, parsed)
    if reason is not None:
        return None, (reason,)
    if not parsed.docstring:
        return parsed, ()
    reason = first_reason(filters.documentation, parsed.docstring)
    if reason is None:
        return parsed, ()
    return dataclasses.replace(parsed, docstring=""), (reason,)


def _file_record(file: SourceFile) -> CodeFile:
    return CodeFile(
        code=file.content.decode(),
        language=file.language,
        license=file.license,
        repository=file.repository,
        path=file.path,
    )


def _function_record(parsed: ParsedFunction, file: SourceFile) -> CodeFunction:
    return CodeFunction(
        code=parsed.code,
        docstring=parsed.docstring,
        name=parsed.name,
        language=file.language,
        license=file.license,
        repository=file.repository,
        path=file.path,
        id=code_id(parsed.code),
    )
