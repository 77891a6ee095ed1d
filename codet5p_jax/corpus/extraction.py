"""From a source to its records, and the counts of what is kept and left out."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from codet5p_jax.corpus.decontamination import EvaluationGrams
from codet5p_jax.corpus.deduplication import Entry, entry_of
from codet5p_jax.corpus.filters import Filters, first_reason
from codet5p_jax.corpus.languages import LANGUAGES
from codet5p_jax.corpus.parsing import ParsedFunction, parse_functions
from codet5p_jax.corpus.reading import read_source
from codet5p_jax.corpus.records import CodeFile, CodeFunction, Counts, SourceFile, code_id
from codet5p_jax.corpus.secrets import scrub
from codet5p_jax.corpus.sources import Rejection, Source
from codet5p_jax.corpus.splits import hashed_split


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRecords:
    """What came of one file.

    Attributes:
        files: The file itself as an entry of `code_files`, or nothing.
        functions: Entries of `code_functions`.
        counts: Files and bytes taken of each source and licence, ("scrubbed", kind of secret) and
            ("rejections", reason).
    """

    files: list[Entry]
    functions: list[Entry]
    counts: Counts


def extract_source(
    source: Source,
    *,
    filters: Filters,
    licenses: Iterable[str],
    evaluation: EvaluationGrams | None = None,
) -> Iterator[FileRecords]:
    """Yields what comes of each file of `source`, those that are left out included."""
    for file in read_source(source, filters=filters, allowed_licenses=licenses):
        if isinstance(file, Rejection):
            yield _nothing(file.reason)
        elif evaluation is not None and evaluation.names_repository(file.repository):
            yield _nothing("file: its repository is in an evaluation set")
        else:
            by_repository = source.rows is not None and source.split is None
            split = hashed_split(file.repository) if by_repository else source.split
            yield extract_file(
                file, split=split, filters=filters, source=source.name, evaluation=evaluation
            )


def _nothing(reason: str) -> FileRecords:
    counts = collections.Counter({("rejections", reason): 1})
    return FileRecords(files=[], functions=[], counts=counts)


def extract_file(
    file: SourceFile,
    *,
    split: str | None,
    filters: Filters,
    source: str | None = None,
    evaluation: EvaluationGrams | None = None,
) -> FileRecords:
    """Returns the records of a file that passed the filters of files, without its secrets.

    Args:
        file: The file.
        split: Its split; None: by the hash of its repository and path.
        filters: Those of whole files, functions and documentation are applied.
        source: Under which name it is counted; None: its repository's.
        evaluation: The evaluation sets whose text is left out.
    """
    source = file.repository if source is None else source
    split = split or hashed_split(f"{file.repository}/{file.path}")
    counts: Counts = collections.Counter(
        {
            ("source files", source): 1,
            ("source bytes", source): len(file.content),
            (f"source licence {source}", file.license): 1,
        }
    )
    text, scrubbed = scrub(file.content.decode())
    counts.update({("scrubbed", kind): number for kind, number in scrubbed.items()})
    if scrubbed:
        file = dataclasses.replace(file, content=text.encode())
    found = parse_functions(file.content, file.language)
    counts.update([] if file.whole or found else [("rejections", "row: no function found")])
    kept: dict[int, ParsedFunction] = {}
    for position, parsed in enumerate(found):
        passed, reasons = _filtered(parsed, filters)
        counts.update(("rejections", reason) for reason in reasons)
        if passed is not None:
            kept[position] = passed
    own_set, sets = _evaluation_sets(file, list(kept.values()), evaluation)
    files = []
    if file.whole:
        reason = first_reason(filters.whole_files, file) or _in_set("file", own_set)
        counts.update([] if reason is None else [("rejections", reason)])
        if reason is None:
            files.append(entry_of(_file_record(file), split=split, position=f"{file.origin}0"))
    functions = []
    for (position, parsed), its_set in zip(kept.items(), sets, strict=True):
        if (reason := _in_set("function", its_set)) is not None:
            counts["rejections", reason] += 1
            continue
        record = _function_record(parsed, file)
        functions.append(entry_of(record, split=split, position=f"{file.origin}{position}"))
    return FileRecords(files=files, functions=functions, counts=counts)


def _in_set(kind: str, name: str | None) -> str | None:
    return None if name is None else f"{kind}: in evaluation set {name}"


def _evaluation_sets(
    file: SourceFile, functions: Sequence[ParsedFunction], evaluation: EvaluationGrams | None
) -> tuple[str | None, Sequence[str | None]]:
    """The evaluation set that a file is in, if any, and the one that each of its functions is in.

    A function is judged by itself, and a file by itself and by its functions. The code of one lies
    in that of its file as it is, but for docstrings that were cut out: so it is looked at only if
    something was found in the file, or in a language with docstrings.
    """
    if evaluation is None:
        return None, [None] * len(functions)
    documentation = [function.docstring.encode() for function in functions]
    own, *sets = evaluation.sets_of([file.content, *documentation])
    if own is not None or LANGUAGES[file.language].docstrings:
        of_code = evaluation.sets_of([function.code.encode() for function in functions])
        sets = [one or other for one, other in zip(sets, of_code, strict=True)]
    return own or next(filter(None, sets), None), sets


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
