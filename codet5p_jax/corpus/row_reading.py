"""The rows of a data set as files of their repositories."""

import codecs
from collections.abc import Iterator

from codet5p_jax.corpus import licenses
from codet5p_jax.corpus.archives import MAX_MEMBER_BYTES, TOO_LARGE
from codet5p_jax.corpus.field_maps import FieldMap, language_named
from codet5p_jax.corpus.filters import Filters, first_reason
from codet5p_jax.corpus.function_rows import file_of_function
from codet5p_jax.corpus.languages import language_of
from codet5p_jax.corpus.records import SourceFile
from codet5p_jax.corpus.rows import Row, columns_of, read_rows
from codet5p_jax.corpus.sources import Rejection, Source
from codet5p_jax.corpus.unpacking import ArchiveError


def with_plain_line_ends(content: bytes) -> bytes:
    """Returns `content` with newlines alone between lines and without a byte order mark."""
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")


def read_rows_of(
    source: Source, columns: FieldMap, *, filters: Filters
) -> Iterator[tuple[str, SourceFile | Rejection]]:
    """Yields (path, what became of it) of the rows of a source, before licences and contents.

    Raises:
        ValueError: A file of rows lacks columns.
    """
    number = 0
    for place in source.places:
        _expect_columns(place, columns)
        try:
            for row in read_rows(place, columns.columns):
                read = _read_row(row, source, columns, filters=filters, number=number)
                number += 1
                if read is not None:
                    yield read.path, read
        except ArchiveError as error:
            yield place, Rejection(place, error.reason)


def _expect_columns(place: str, columns: FieldMap) -> None:
    """The first file told the columns of all."""
    has = columns_of(place)
    if has and (missing := sorted(set(columns.columns) - set(has))):
        raise ValueError(
            f"{place} lacks the columns {', '.join(missing)} of {columns.name}; it has "
            f"{', '.join(has)}. Files of different columns are different --source."
        )


def _read_row(
    row: Row | None, source: Source, columns: FieldMap, *, filters: Filters, number: int
) -> SourceFile | Rejection | None:
    place = f"{source.name}#{number}"
    if row is None:
        return Rejection(place, "row: not JSON")
    content, path = row[columns.content], _text(row[columns.path])
    if not isinstance(content, str | bytes) or not content:
        return Rejection(path or place, "row: no content")
    if columns.language is None:
        language = language_of(path)
    else:
        language = language_named(_text(row[columns.language]))
    if language is None or (source.languages and language not in source.languages):
        return Rejection(path, "row: of another language")
    if (reason := first_reason(filters.paths, path)) is not None:
        return Rejection(path, reason)
    if columns.function is not None:
        content = file_of_function(
            _text(content),
            documentation=_text(row.get(columns.documentation or "")),
            name=_text(row[columns.function]),
            language=language,
        )
    # A surrogate alone is no text: what is left of it is no UTF-8 either, and a filter says so.
    content = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    if len(content) > MAX_MEMBER_BYTES:
        return Rejection(path, TOO_LARGE)
    return SourceFile(
        content=with_plain_line_ends(content),
        repository=_text(row[columns.repository]) or place,
        path=path,
        license=_license_of_row(row, source, columns),
        language=language,
        whole=columns.function is None,
        origin=f"{place}#",
    )


def _license_of_row(row: Row, source: Source, columns: FieldMap) -> str:
    stated = None if columns.license is None else row[columns.license]
    names = stated if isinstance(stated, list) else [stated]
    expression = licenses.all_of(_text(name) for name in names)
    if not licenses.is_known(expression) and source.license is not None:
        return licenses.spdx(source.license)
    return expression


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value).encode(errors="replace").decode()
