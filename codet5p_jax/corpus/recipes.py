"""Recipes: which packages make up a corpus, and why."""

import dataclasses
import difflib
import importlib.resources
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from codet5p_jax.corpus.languages import LANGUAGES
from codet5p_jax.corpus.licenses import PERMISSIVE, parse_allowed
from codet5p_jax.corpus.records import SPLITS

ECOSYSTEMS = ("apt", "npm", "pip")
_PACKAGE_NAME = re.compile(r"@?[A-Za-z0-9][\w.+-]*(?:/[A-Za-z0-9][\w.+-]*)?", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A package of a registry.

    Attributes:
        name: Its name there; for apt the name of the source package.
        ecosystem: One of `ECOSYSTEMS`: the client that fetches it.
        why: What it is good for in the corpus.
        version: Exact version; None takes what the client offers.
        split: Where the whole package goes; None: by a hash of its name.
        languages: What is read of it; nothing given means everything.
        license: SPDX expression for when the package does not state it in a form we read.
        max_bytes: Source text taken of it at most; None: as the recipe says.
    """

    name: str
    ecosystem: str
    why: str = ""
    version: str | None = None
    split: str | None = None
    languages: tuple[str, ...] = ()
    license: str | None = None
    max_bytes: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A corpus by name.

    Attributes:
        name: Its name.
        description: What it is for.
        packages: Its packages.
        max_bytes: Source text taken of one package at most.
        licenses: SPDX names of the licences that a file may have; "permissive" and "any" too.
    """

    name: str
    description: str
    packages: tuple[Package, ...]
    max_bytes: int
    licenses: tuple[str, ...] = PERMISSIVE

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as JSON values."""
        return dataclasses.asdict(self)


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    folder = importlib.resources.files("codet5p_jax.corpus") / "recipes"
    return sorted(
        file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")
    )


def load_recipe(name: str) -> Recipe:
    """Returns the recipe called `name`, or the one in the JSON file at that path.

    Raises:
        ValueError: No recipe has that name; the message names the nearest. Or the file holds no
            JSON, or not that of a recipe.
    """
    if name.endswith(".json") and pathlib.Path(name).is_file():
        return parse_recipe(_read_json(pathlib.Path(name)))
    known = recipe_names()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        guess = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(
            f"Unknown corpus recipe {name!r}.{guess} Known recipes: {', '.join(known)}. "
            "A path that ends in .json reads a recipe of your own."
        )
    file = importlib.resources.files("codet5p_jax.corpus") / "recipes" / f"{name}.json"
    return parse_recipe(json.loads(file.read_text(encoding="utf-8")))


def parse_recipe(values: Any) -> Recipe:
    """Returns the recipe of a JSON object with the fields of `Recipe`.

    Raises:
        ValueError: A field is unknown, missing or of another type, or a package names an unknown
            ecosystem, split or language, or `licenses` names one that SPDX does not know.
    """
    fields = _checked(values, Recipe, where="recipe")
    packages = tuple(_package(package) for package in fields.pop("packages"))
    licenses = parse_allowed(fields.pop("licenses", PERMISSIVE))
    return Recipe(packages=packages, licenses=licenses, **fields)


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is one too
        raise ValueError(f"The recipe {path} is no JSON: {error}.") from error


def _package(values: Any) -> Package:
    named = isinstance(values, Mapping)
    where = f"package {values.get('name', '(unnamed)')!r}" if named else "package"
    package = Package(**_checked(values, Package, where=where))
    if not _PACKAGE_NAME.fullmatch(package.name):
        raise ValueError(f"The {where} has a name that no registry has, and a client may misread.")
    _expect_one_of(package.ecosystem, ECOSYSTEMS, where=where, field="ecosystem")
    for language in package.languages:
        _expect_one_of(language, tuple(LANGUAGES), where=where, field="language")
    if package.split is not None:
        _expect_one_of(package.split, SPLITS, where=where, field="split")
    return package


def _checked(values: Any, kind: type, *, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"The {where} is {values!r:.60}; expected a JSON object.")
    fields = dataclasses.fields(kind)
    unknown = sorted(set(values) - {field.name for field in fields})
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise ValueError(
            f"The {where} has unknown fields {unknown} and lacks {missing}. "
            f"Its fields are {', '.join(field.name for field in fields)}."
        )
    optional = {field.name for field in fields if field.default is None}
    for name, value in values.items():
        if not (value is None and name in optional):
            _expect_type(name, value, where=where)
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _expect_type(name: str, value: Any, *, where: str) -> None:
    """A field is text, a list of texts or of packages, or a number of bytes."""
    if name == "max_bytes":
        expected, fits = "a positive number", isinstance(value, int) and value > 0
    elif name == "packages":
        expected, fits = "a list", isinstance(value, list | tuple)
    elif name in ("languages", "licenses"):
        texts = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        fits = texts or (name == "licenses" and isinstance(value, str))
        expected = "a list of texts"
    else:
        expected, fits = "a text", isinstance(value, str)
    if not fits:
        raise ValueError(f"The {where} has {name} {value!r:.60}; expected {expected}.")


def _expect_one_of(value: str, known: tuple[str, ...], *, where: str, field: str) -> None:
    if value not in known:
        raise ValueError(f"The {where} has {field} {value!r}; expected one of {', '.join(known)}.")
