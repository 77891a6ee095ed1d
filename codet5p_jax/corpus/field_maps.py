"""Which columns of a data set of code hold what, and how such sets name our languages."""

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from codet5p_jax.corpus.languages import LANGUAGES


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldMap:
    """The columns of one data set.

    Attributes:
        name: Of the data set.
        content: Column of the text of a file, or of a function where `function` is given.
        repository: Column of "owner/name".
        path: Column of the path of the file in the repository.
        language: Column of the language; None: the ending of the path tells it.
        license: Column of the licence, or of a list of licences that all hold; None: the set has
            none.
        function: Column of a function's name; None: rows are whole files.
        documentation: Column of a function's documentation, which `content` does not hold.
    """

    name: str
    content: str
    repository: str
    path: str
    language: str | None = None
    license: str | None = None
    function: str | None = None
    documentation: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        fields = dataclasses.fields(self)
        values = (getattr(self, field.name) for field in fields if field.name != "name")
        return tuple(value for value in values if value is not None)


_CODE_SEARCH_NET = FieldMap(  # github/CodeSearchNet: jsonl.gz in a zip for each language
    name="code_search_net",
    content="original_string",
    repository="repo",
    path="path",
    language="language",
    function="func_name",
    documentation="docstring",
)
_STACK_V2 = FieldMap(
    name="the-stack-v2",
    content="content",
    repository="repo_name",
    path="path",
    language="language",
    license="detected_licenses",
)
_ALL = (
    _CODE_SEARCH_NET,
    dataclasses.replace(_CODE_SEARCH_NET, content="whole_func_string"),
    dataclasses.replace(_CODE_SEARCH_NET, content="code"),
    FieldMap(  # code-search-net/code_search_net
        name="code_search_net",
        content="whole_func_string",
        repository="repository_name",
        path="func_path_in_repository",
        language="language",
        function="func_name",
        documentation="func_documentation_string",
    ),
    FieldMap(  # codeparrot/github-code and github-code-clean
        name="github-code",
        content="code",
        repository="repo_name",
        path="path",
        language="language",
        license="license",
    ),
    FieldMap(  # bigcode/the-stack and the-stack-dedup
        name="the-stack",
        content="content",
        repository="max_stars_repo_name",
        path="max_stars_repo_path",
        language="lang",
        license="max_stars_repo_licenses",
    ),
    FieldMap(  # bigcode/the-stack-smol
        name="the-stack",
        content="content",
        repository="repository_name",
        path="path",
        language="lang",
        license="licenses",
    ),
    _STACK_V2,  # with the contents fetched; as published it has ids alone
    dataclasses.replace(_STACK_V2, content="text"),
)
NAMES = tuple(dict.fromkeys(field_map.name for field_map in _ALL))

_LANGUAGES = {
    **{name: name for name in LANGUAGES},
    **{"c++": "cpp", "c#": "csharp", "c-sharp": "csharp", "golang": "go", "js": "javascript"},
}


def language_named(name: str | None) -> str | None:
    """Returns our name of the language that a data set calls `name`, or None: not one of ours."""
    return None if name is None else _LANGUAGES.get(name.strip().lower())


def find_field_map(place: str, columns: Collection[str], asked: str | None = None) -> FieldMap:
    """Returns the field map of a file of rows.

    Args:
        place: The file, for errors.
        columns: Its columns.
        asked: Name of a data set, or path of a JSON file with the fields of `FieldMap`; None: the
            columns tell it.

    Raises:
        ValueError: The columns fit none, or not the one that was asked for.
    """
    candidates = _ALL if asked is None else _named(asked)
    fitting = (found for found in candidates if set(found.columns) <= set(columns))
    if (found := next(fitting, None)) is not None:
        return found
    has = f"{place} has the columns {', '.join(sorted(columns)) or '(none)'}"
    if not {"content", "text"} & set(columns) and {"blob_id", "files"} & set(columns):
        raise ValueError(
            f"{has}: The Stack v2 as it is published holds no source code, but ids of blobs at "
            "Software Heritage. Fetch the contents first, as its page on the Hugging Face Hub "
            "says, and write them to Parquet with the columns "
            f"{', '.join(_STACK_V2.columns)}; then give that folder as --source."
        )
    expected = "; ".join(f"{field_map.name}: {_listed(field_map)}" for field_map in candidates)
    raise ValueError(
        f"{has}. Expected those of {expected}. For another data set give --field_map=FILE.json, "
        'such as {"content": "code", "repository": "repo", "path": "file", "license": "license"}; '
        "for code with data beside it give the folder of the code."
    )


def _listed(field_map: FieldMap) -> str:
    return ", ".join(field_map.columns)


def _named(asked: str) -> tuple[FieldMap, ...]:
    if asked.endswith(".json"):
        return (_from_json(pathlib.Path(asked)),)
    if asked not in NAMES:
        nearest = difflib.get_close_matches(asked, NAMES, n=1, cutoff=0.3)
        guess = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(
            f"Unknown field map {asked!r}.{guess} Known: {', '.join(NAMES)}. A path that ends in "
            ".json reads a field map of your own."
        )
    return tuple(field_map for field_map in _ALL if field_map.name == asked)


def _from_json(path: pathlib.Path) -> FieldMap:
    if not path.is_file():
        raise ValueError(f"The field map {path} does not exist; known names: {', '.join(NAMES)}.")
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"The field map {path} is no JSON: {error}.") from error
    known = [field.name for field in dataclasses.fields(FieldMap)]
    required = {"content", "repository", "path"}
    texts = isinstance(values, Mapping) and all(isinstance(v, str) for v in values.values())
    if not texts or not required <= set(values) <= set(known):
        raise ValueError(
            f"The field map {path} is {json.dumps(values)[:200]}; expected a JSON object of names "
            f"of columns with {', '.join(sorted(required))}, and optionally "
            f"{', '.join(name for name in known if name not in required)}."
        )
    return FieldMap(**{"name": path.stem, **values})
