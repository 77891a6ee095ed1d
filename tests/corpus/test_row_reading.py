"""Tests of codet5p_jax.corpus.row_reading, on files shaped as those of the data sets."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codet5p_jax.corpus.extraction import extract_source
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.reading import read_source
from codet5p_jax.corpus.records import SourceFile
from codet5p_jax.corpus.sources import sources_of_path
from codet5p_jax.corpus.splits import hashed_split
from codet5p_jax.corpus.tfrecords import decode_example

PYTHON = "def area(radius):\n    radius = float(radius)\n    return 3 * radius * radius\n"
GITHUB_CODE = {
    "code": PYTHON,
    "repo_name": "octo/shapes",
    "path": "shapes/area.py",
    "language": "Python",
    "license": "mit",
    "size": len(PYTHON),
}
STACK = {
    "hexsha": "0f",
    "size": 90,
    "ext": "cpp",
    "lang": "C++",
    "max_stars_repo_path": "src/area.cpp",
    "max_stars_repo_name": "octo/shapes",
    "max_stars_repo_licenses": ["MIT", "BSD-3-Clause"],
    "content": "int area(int radius) {\n  int square = radius * radius;\n  return 3 * square;\n}\n",
    "avg_line_length": 20.0,
}
CODE_SEARCH_NET = {
    "repo": "octo/shapes",
    "path": "src/Shapes.java",
    "func_name": "Shapes.area",
    "original_string": (
        "public int area(int radius) {\n        int square = radius * radius;\n"
        "        return 3 * square;\n    }"
    ),
    "language": "java",
    "code": "public int area ...",
    "code_tokens": ["public", "int"],
    "docstring": "Returns the area of a circle.\n\n@param radius its radius\n@return the area",
    "docstring_tokens": ["Returns"],
    "sha": "0f",
    "url": "https://github.com/octo/shapes/blob/0f/src/Shapes.java#L3-L6",
    "partition": "train",
}


def _parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _json_lines(path, rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def _read(path, licenses=("MIT", "BSD-3-Clause"), **kwargs):
    found = [
        result
        for source in sources_of_path(path, **kwargs)
        for result in read_source(source, filters=Filters(), allowed_licenses=licenses)
    ]
    files = [result for result in found if isinstance(result, SourceFile)]
    return files, [result.reason for result in found if not isinstance(result, SourceFile)]


def _functions(path, **kwargs):
    (source,) = sources_of_path(path, **kwargs)
    found = list(extract_source(source, filters=Filters(), licenses=("MIT",)))
    return [decode_example(e.example) for f in found for e in f.functions], found


def test_a_row_of_github_code_is_a_file_of_its_repository(tmp_path):
    ((file,), rejections) = _read(_parquet(tmp_path / "train.parquet", [GITHUB_CODE]))
    assert (file.repository, file.path, file.language) == (
        *("octo/shapes", "shapes/area.py", "python"),
    )
    assert (file.license, file.content, file.whole) == ("MIT", PYTHON.encode(), True)
    assert rejections == []


def test_a_row_of_the_stack_is_under_all_of_its_licences(tmp_path):
    ((file,), _) = _read(_parquet(tmp_path / "data.parquet", [STACK]))
    assert (file.repository, file.language) == ("octo/shapes", "cpp")
    assert file.license == "MIT AND BSD-3-Clause"
    other = {**STACK, "max_stars_repo_licenses": ["MIT", "GPL-3.0"]}
    assert _read(_parquet(tmp_path / "data.parquet", [other]))[1] == [
        "licence: MIT AND GPL-3.0-only"
    ]


def test_a_row_of_code_search_net_is_a_function_with_its_documentation(tmp_path):
    path = _json_lines(tmp_path / "java_train_0.jsonl.gz", [CODE_SEARCH_NET])
    ((function,), (extracted,)) = _functions(path, license="MIT")
    assert function["code"] == (
        "public int area(int radius) {\n    int square = radius * radius;\n"
        "    return 3 * square;\n}"
    )
    assert function["docstring"] == "Returns the area of a circle."
    assert (function["name"], function["repository"]) == ("area", "octo/shapes")
    assert (function["path"], function["license"]) == ("src/Shapes.java", "MIT")
    assert extracted.files == []  # one function is no file


def test_code_search_net_of_the_hub_is_read_and_its_python_docstrings_are_cut_out(tmp_path):
    row = {
        "repository_name": "octo/shapes",
        "func_path_in_repository": "shapes.py",
        "func_name": "Shapes.area",
        "whole_func_string": (
            'def area(self):\n        """Returns the area of it.\n\n        More.\n        """\n'
            "        square = self.radius**2\n        return 3 * square"
        ),
        "language": "python",
        "func_code_string": "...",
        "func_documentation_string": "Returns the area of it.\n\nMore.",
        "split_name": "train",
    }
    ((function,), _) = _functions(_parquet(tmp_path / "a.parquet", [row]), license="MIT")
    assert function["docstring"] == "Returns the area of it."
    assert function["code"] == (
        "def area(self):\n    square = self.radius**2\n    return 3 * square"
    )


@pytest.mark.parametrize("column", ["whole_func_string", "code"])
def test_json_lines_may_name_the_function_otherwise(tmp_path, column):
    row = {**CODE_SEARCH_NET, column: CODE_SEARCH_NET["original_string"]}
    del row["original_string"]
    path = _json_lines(tmp_path / "java_train_0.jsonl.gz", [row])
    assert len(_functions(path, license="MIT")[0]) == 1


def test_the_split_of_a_row_is_that_of_its_repository(tmp_path):
    names = [f"octo/{number}" for number in range(60)]
    rows = [
        {**GITHUB_CODE, "repo_name": name, "path": p} for name in names for p in ("a.py", "b.py")
    ]
    (source,) = sources_of_path(_parquet(tmp_path / "a.parquet", rows))
    found = list(extract_source(source, filters=Filters(), licenses=("MIT",)))
    splits = [entry.split for file in found for entry in file.functions]
    assert splits == [hashed_split(name) for name in names for _ in "ab"]
    assert set(splits) == {"train", "validation", "test"}


def test_functions_of_one_path_and_copies_in_other_files_of_rows_are_told_apart(tmp_path):
    rows = [CODE_SEARCH_NET, CODE_SEARCH_NET]
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        _json_lines(tmp_path / name, rows)
    ranks = [
        entry.rank
        for source in sources_of_path(tmp_path, license="MIT")
        for file in extract_source(source, filters=Filters(), licenses=("MIT",))
        for entry in file.functions
    ]
    assert len(set(ranks)) == len(ranks) == 4


def test_rows_are_counted_under_the_name_of_their_file(tmp_path):
    (source,) = sources_of_path(_parquet(tmp_path / "a.parquet", [GITHUB_CODE]))
    (extracted,) = extract_source(source, filters=Filters(), licenses=("MIT",))
    assert extracted.counts["source files", "a.parquet"] == 1
    assert extracted.counts["source licence a.parquet", "MIT"] == 1


def test_rows_that_are_left_out_are_counted_with_their_reason(tmp_path):
    rows = [
        {**GITHUB_CODE, "language": "TypeScript"},
        {**GITHUB_CODE, "language": None},
        {**GITHUB_CODE, "code": None},
        {**GITHUB_CODE, "code": ["x"]},
        {**GITHUB_CODE, "path": "tests/test_area.py"},
        {**GITHUB_CODE, "license": "gpl-3.0"},
        {**GITHUB_CODE, "license": None},
        {**GITHUB_CODE, "code": "x" * 3 * 2**20},
        {**GITHUB_CODE, "code": "# caf\udce9\n" + PYTHON},
    ]
    path = _json_lines(tmp_path / "a.jsonl.gz", rows)
    path.write_bytes(path.read_bytes() + gzip.compress(b"nonsense\n"))
    assert _read(path) == (
        [],
        [
            *("row: of another language", "row: of another language"),
            *("row: no content", "row: no content"),
            *("file: of tests", "licence: GPL-3.0-only", "licence: NOASSERTION"),
            *("file: over 2 MiB", "file: not UTF-8", "row: not JSON"),
        ],
    )


def test_a_function_row_in_which_no_function_is_found_is_counted(tmp_path):
    row = {**CODE_SEARCH_NET, "original_string": "int radius;"}
    functions, (extracted,) = _functions(_json_lines(tmp_path / "a.jsonl.gz", [row]), license="MIT")
    assert functions == []
    assert extracted.counts["rejections", "row: no function found"] == 1


def test_a_licence_that_is_given_holds_where_the_row_states_none(tmp_path):
    rows = [{**GITHUB_CODE, "license": name} for name in ("isc", "other", "")]
    files, _ = _read(_parquet(tmp_path / "a.parquet", rows), ("MIT", "ISC"), license="Expat")
    assert [file.license for file in files] == ["ISC", "MIT", "MIT"]


def test_the_ending_tells_the_language_where_no_column_does(tmp_path):
    own = {"content": "code", "repository": "repo_name", "path": "path"}
    (tmp_path / "own.json").write_text(json.dumps(own))
    rows = [GITHUB_CODE, {**GITHUB_CODE, "path": "area.ts"}]
    path = _parquet(tmp_path / "a.parquet", rows)
    files, rejections = _read(path, license="MIT", field_map=str(tmp_path / "own.json"))
    assert [file.language for file in files] == ["python"]
    assert rejections == ["row: of another language"]


def test_a_file_that_lacks_the_columns_of_the_first_is_an_error(tmp_path):
    _parquet(tmp_path / "a.parquet", [GITHUB_CODE])
    _parquet(tmp_path / "b.parquet", [STACK])
    with pytest.raises(ValueError, match=r"b\.parquet lacks the columns code, language, license"):
        _read(tmp_path)


def test_an_empty_file_of_rows_holds_nothing(tmp_path):
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.jsonl").write_text(json.dumps(GITHUB_CODE) + "\n")
    files, rejections = _read(tmp_path)
    assert (len(files), rejections) == (1, [])


def test_a_damaged_file_of_rows_is_a_rejection(tmp_path):
    path = _json_lines(tmp_path / "a.jsonl.gz", [GITHUB_CODE] * 2_000)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    files, rejections = _read(path)
    assert len(files) > 0 and rejections == ["archive: EOFError"]
