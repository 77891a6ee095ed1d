"""Tests of codet5p_jax.corpus.recipes."""

import json

import pytest

from codet5p_jax.corpus.languages import LANGUAGES
from codet5p_jax.corpus.licenses import PERMISSIVE
from codet5p_jax.corpus.recipes import Package, load_recipe, parse_recipe, recipe_names

SMALL = {
    "name": "small",
    "description": "for tests",
    "max_bytes": 10,
    "packages": [{"name": "a", "ecosystem": "pip", "languages": ["c"], "split": "test"}],
}


def test_a_recipe_is_read_from_json(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    recipe = load_recipe(str(tmp_path / "small.json"))
    assert recipe == parse_recipe(recipe.to_dict())
    assert recipe.packages == (Package(name="a", ecosystem="pip", languages=("c",), split="test"),)


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (None, PERMISSIVE),
        (["permissive", "mpl-2.0"], (*PERMISSIVE, "MPL-2.0")),
        ("any", ("any",)),
    ],
)
def test_a_recipe_says_which_licences_it_takes(licenses, expected):
    stated = {} if licenses is None else {"licenses": licenses}
    assert parse_recipe({**SMALL, **stated}).licenses == expected


def test_a_recipe_with_an_unknown_licence_is_told():
    with pytest.raises(ValueError, match="Unknown licence 'MTI'"):
        parse_recipe({**SMALL, "licenses": ["MTI"]})


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_says_why_for_each_package(name):
    packages = load_recipe(name).packages
    assert all(package.why for package in packages)
    assert len({(p.ecosystem, p.name) for p in packages}) == len(packages)


def test_quickstart_holds_out_packages_of_every_language_without_npm():
    packages = [p for p in load_recipe("quickstart").packages if p.ecosystem != "npm"]
    for split in ("train", "validation", "test"):
        own = [p for p in packages if p.split == split]
        named = {language for p in own for language in p.languages}
        named |= {"python"} if any(p.ecosystem == "pip" for p in own) else set()
        assert named == set(LANGUAGES), split


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'quickstart'"):
        load_recipe("quikstart")
    with pytest.raises(ValueError, match=r"Known recipes: .*quickstart"):
        load_recipe("x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ecosystem": "cargo"}, "'a' has ecosystem 'cargo'; expected one of apt, npm, pip"),
        ({"split": "dev"}, "split 'dev'; expected one of train"),
        ({"languages": ["rust"]}, "language 'rust'; expected one of c,"),
        ({"nmae": "b"}, r"unknown fields \['nmae'\]"),
        ({"name": 5}, "package 5 has name 5; expected a text"),
        ({"name": "--config=x"}, "'--config=x' has a name that no registry has"),
        ({"name": "../../x"}, "a name that no registry has"),
        ({"languages": "go"}, "languages 'go'; expected a list of texts"),
        ({"max_bytes": "1"}, "max_bytes '1'; expected a positive number"),
    ],
)
def test_a_mistake_in_a_package_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe({**SMALL, "packages": [{**SMALL["packages"][0], **change}]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packages": 5}, "The recipe has packages 5; expected a list"),
        ({"packages": [5]}, "The package is 5; expected a JSON object"),
        ({"max_bytes": -1}, "max_bytes -1; expected a positive number"),
        ({"licenses": [5]}, r"licenses \[5\]; expected a list of texts"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe({**SMALL, **change})


@pytest.mark.parametrize("text", ["{", "[" * 10_000, "[]"])
def test_a_file_that_is_no_recipe_is_named(tmp_path, text):
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(ValueError, match=r"own\.json is no JSON|The recipe is \[\]"):
        load_recipe(str(tmp_path / "own.json"))


def test_a_missing_field_of_a_recipe_is_named():
    with pytest.raises(ValueError, match=r"lacks \['max_bytes'\]"):
        parse_recipe({k: v for k, v in SMALL.items() if k != "max_bytes"})
