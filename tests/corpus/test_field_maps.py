"""Tests of codet5p_jax.corpus.field_maps."""

import json

import pytest

from codet5p_jax.corpus.field_maps import NAMES, find_field_map, language_named

# As the pages of these sets list them.
COLUMNS = {
    "code_search_net.jsonl": (
        "repo path func_name original_string language code code_tokens docstring docstring_tokens "
        "sha url partition"
    ),
    "code-search-net/code_search_net": (
        "repository_name func_path_in_repository func_name whole_func_string language "
        "func_code_string func_code_tokens func_documentation_string func_documentation_tokens "
        "split_name func_code_url"
    ),
    "codeparrot/github-code": "code repo_name path language license size",
    "bigcode/the-stack": (
        "hexsha size ext lang max_stars_repo_path max_stars_repo_name max_stars_repo_head_hexsha "
        "max_stars_repo_licenses max_stars_count max_issues_repo_path max_issues_repo_name "
        "max_issues_repo_licenses content avg_line_length max_line_length alphanum_fraction"
    ),
    "bigcode/the-stack-smol": (
        "content avg_line_length max_line_length alphanum_fraction licenses repository_name path "
        "size lang"
    ),
    "the-stack-v2 with contents": (
        "blob_id directory_id path content_id detected_licenses license_type repo_name snapshot_id "
        "src_encoding language is_vendor is_generated length_bytes extension content"
    ),
    "the-stack-v2 with texts": (
        "blob_id language repo_name path src_encoding length_bytes detected_licenses text"
    ),
}
EXPECTED = {
    "code_search_net.jsonl": ("code_search_net", "original_string", "repo", None),
    "code-search-net/code_search_net": (
        *("code_search_net", "whole_func_string", "repository_name", None),
    ),
    "codeparrot/github-code": ("github-code", "code", "repo_name", "license"),
    "bigcode/the-stack": (
        *("the-stack", "content", "max_stars_repo_name", "max_stars_repo_licenses"),
    ),
    "bigcode/the-stack-smol": ("the-stack", "content", "repository_name", "licenses"),
    "the-stack-v2 with contents": ("the-stack-v2", "content", "repo_name", "detected_licenses"),
    "the-stack-v2 with texts": ("the-stack-v2", "text", "repo_name", "detected_licenses"),
}


@pytest.mark.parametrize("data_set", COLUMNS)
def test_the_columns_of_a_data_set_tell_its_field_map(data_set):
    columns = COLUMNS[data_set].split()
    found = find_field_map("a.parquet", columns)
    assert (found.name, found.content, found.repository, found.license) == EXPECTED[data_set]
    assert set(found.columns) <= set(columns)
    assert find_field_map("a.parquet", columns, found.name) == found


@pytest.mark.parametrize("content", ["original_string", "whole_func_string", "code"])
def test_code_search_net_is_known_by_any_of_its_names_for_the_function(content):
    columns = ["repo", "path", "func_name", content, "docstring", "language", "partition"]
    found = find_field_map("a.jsonl.gz", columns)
    assert (found.name, found.content) == ("code_search_net", content)


def test_other_columns_are_named_with_those_expected_and_the_way_out():
    message = (
        r"a\.parquet has the columns source, text\. Expected those of code_search_net: "
        r"original_string.*github-code: code, repo_name.*the-stack: .*--field_map=FILE\.json.*"
        "for code with data beside it give the folder"
    )
    with pytest.raises(ValueError, match=message):
        find_field_map("a.parquet", ["text", "source"])
    with pytest.raises(ValueError, match=r"columns \(none\)\. Expected those of github-code: code"):
        find_field_map("a.jsonl", [], "github-code")


@pytest.mark.parametrize(
    "columns",
    [
        ["blob_id", "path", "repo_name", "language", "detected_licenses"],
        ["repo_name", "repo_url", "snapshot_id", "files", "num_files"],  # train-smol-ids
    ],
)
def test_the_stack_v2_without_contents_is_told_with_the_way_out(columns):
    with pytest.raises(ValueError, match=r"holds no source code, but ids.*Fetch the contents"):
        find_field_map("a.parquet", columns)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match=r"'github'\. Did you mean 'github-code'\? Known: code_se"):
        find_field_map("a.parquet", [], "github")
    assert NAMES == ("code_search_net", "github-code", "the-stack", "the-stack-v2")


def test_a_field_map_of_ones_own_is_a_json_file(tmp_path):
    own = {"content": "body", "repository": "origin", "path": "file"}
    (tmp_path / "own.json").write_text(json.dumps(own))
    found = find_field_map("a.jsonl", ["body", "origin", "file"], str(tmp_path / "own.json"))
    assert (found.name, found.columns) == ("own", ("body", "origin", "file"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is no JSON"),
        ("[]", "expected a JSON object of names of columns with content, path, repository"),
        ('{"content": "a", "path": "b"}', "expected a JSON object"),
        ('{"content": "a", "path": "b", "repository": "c", "licence": "d"}', "optionally .*licen"),
        ('{"content": "a", "path": "b", "repository": 1}', "expected a JSON object"),
    ],
)
def test_a_field_map_that_is_none_is_told(tmp_path, text, problem):
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(ValueError, match=problem):
        find_field_map("a.jsonl", ["a"], str(tmp_path / "own.json"))


def test_a_field_map_that_does_not_exist_is_told():
    with pytest.raises(ValueError, match=r"nowhere\.json does not exist; known names"):
        find_field_map("a.jsonl", ["a"], "nowhere.json")


LANGUAGES = {
    **{"C++": "cpp", "C#": "csharp", "GO": "go", "JavaScript": "javascript", "C": "c"},
    **{"Python": "python", "PHP": "php", "TypeScript": None, "": None, None: None},
}


@pytest.mark.parametrize(("name", "expected"), LANGUAGES.items())
def test_languages_have_our_names(name, expected):
    assert language_named(name) == expected
