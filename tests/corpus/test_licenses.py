"""Tests of codet5p_jax.corpus.licenses."""

import json

import pytest

from codet5p_jax.corpus import licenses


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MIT", "MIT"),
        ("Expat", "MIT"),
        ("MIT License", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache-2", "Apache-2.0"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("BSD 2-Clause", "BSD-2-Clause"),
        ("Apache-2.0 or MIT", "Apache-2.0 OR MIT"),
        ("BSD-3-clause and BSD-3-clause", "BSD-3-Clause"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2 or (at your option) any later version", "GPL-2.0-or-later"),
        ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("GNU Library or Lesser General Public License (LGPL)", "LGPL-2.0-or-later"),
        ("GNU Affero General Public License v3", "AGPL-3.0-only"),
        ("GPL", "GPL-1.0-or-later"),  # without a version it is any
        ("LGPL-3+ and (Expat or Apache-2.0)", "LGPL-3.0-or-later AND (MIT OR Apache-2.0)"),
        ("GPL-2+ or Artistic-2.0, and BSD", "(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause"),
        ("GPL-2 with Classpath exception", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("GPL-2 with odd exception", "GPL-2.0-only WITH LicenseRef-odd-exception"),
        ("BSD or GPL-3", "BSD-3-Clause OR GPL-3.0-only"),
        ("BSD-style", "BSD-3-Clause"),
        ("BSD (3-clause)", "BSD-3-Clause"),
        ("BSD-3-clause-Zend", "BSD-3-Clause"),
        ("BSD-3-clause-notice", "LicenseRef-BSD-3-clause-notice"),
        ("BSD-4-clause", "BSD-4-Clause"),
        ("MIT/X11", "MIT"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("bsd-3-clause", "BSD-3-Clause"),  # as code data sets write it
        ("cc0-1.0", "CC0-1.0"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
        ("CC-BY-SA-3", "CC-BY-SA-3.0"),
        ("MIT-CMU", "MIT-CMU"),
        ("UNLICENSED", "LicenseRef-UNLICENSED"),  # npm's word for no licence at all
        ("My Own License!", "LicenseRef-My-Own-License"),
        ("(MIT", "LicenseRef-MIT"),
        ("MIT or", "LicenseRef-MIT-or"),
        ("!", "LicenseRef-unnamed"),
        ("", "NOASSERTION"),
    ],
)
def test_names_become_spdx(name, expected):
    assert licenses.spdx(name) == expected
    assert licenses.spdx(expected) == expected


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("GPL-2.0-or-later OR MIT", True),
        ("GPL-2.0-or-later AND MIT", False),
        ("ISC AND MIT", True),
        ("(GPL-2.0-only OR ISC) AND MIT", True),
        ("GPL-2.0-only OR (ISC AND MPL-2.0)", False),
        ("GPL-2.0-only OR ISC AND MPL-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("NOASSERTION", False),
        ("LicenseRef-MIT", False),
        ("", False),
        ("(MIT", False),
    ],
)
def test_an_expression_is_allowed_by_the_licences_that_meet_it(expression, allowed):
    assert licenses.is_allowed(expression) == allowed


def test_an_expression_is_known_by_its_licences_not_its_exceptions():
    assert licenses.is_known("MIT AND Apache-2.0 WITH LicenseRef-Ours")
    assert not licenses.is_known("MIT AND LicenseRef-Ours")
    assert not licenses.is_known("NOASSERTION")


def test_more_is_allowed_where_more_is_given():
    assert licenses.is_allowed("PSF-2.0", ("PSF-2.0",))
    with_exception = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert licenses.is_allowed(with_exception, (with_exception,))
    assert not licenses.is_allowed("GPL-2.0-only", (with_exception,))
    assert licenses.is_allowed("NOASSERTION", (licenses.ANY,))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("permissive", licenses.PERMISSIVE),
        ("permissive, mpl-2.0, MIT", (*licenses.PERMISSIVE, "MPL-2.0")),
        ("MIT,any", ("any",)),
        ("gpl-3.0,LicenseRef-Ours", ("GPL-3.0-only", "LicenseRef-Ours")),
        (["Expat", "NOASSERTION"], ("MIT", "NOASSERTION")),
    ],
)
def test_a_list_of_allowed_licences_is_read(names, expected):
    assert licenses.parse_allowed(names) == expected


def test_an_unknown_licence_and_an_empty_list_are_errors_with_the_way_out():
    with pytest.raises(ValueError, match=r"'MTI'\. Did you mean MIT\? Give permissive, any"):
        licenses.parse_allowed("permissive,MTI")
    with pytest.raises(ValueError, match=r"'permisive'\. Did you mean permissive\?"):
        licenses.parse_allowed("permisive")
    with pytest.raises(ValueError, match="nothing would be kept: give permissive"):
        licenses.parse_allowed(" ,")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Name: a\nLicense-Expression: BSD-3-Clause\n", "BSD-3-Clause"),
        ("Name: a\nClassifier: License :: OSI Approved :: MIT License\n", "MIT"),
        ("Classifier: License :: OSI Approved :: Apache Software License\n", "Apache-2.0"),
        (
            "Classifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)\n",
            "MIT AND GPL-2.0-only",
        ),
        ("License: MIT\nClassifier: License :: OSI Approved\n", "MIT"),
        ("Classifier: License :: CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "CC0-1.0"),
        ("License: BSD\nClassifier: Topic :: X\n", "BSD-3-Clause"),
        ("Name: a\n\nLicense: MIT\n", "NOASSERTION"),
    ],
)
def test_license_of_a_wheel(headers, expected):
    assert licenses.license_of_wheel(headers) == expected


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({"license": "ISC"}, "ISC"),
        ({"license": {"type": "MIT", "url": "x"}}, "MIT"),
        ({"license": "(MIT OR GPL-3.0)"}, "MIT OR GPL-3.0-only"),
        (
            {"licenses": [{"type": "MIT"}, {"type": "GPL-2.0 AND ISC"}]},
            "MIT OR (GPL-2.0-only AND ISC)",
        ),
        ({"licenses": [{"url": "x"}]}, "NOASSERTION"),
        ({"license": "SEE LICENSE IN LICENSE.md"}, "LicenseRef-SEE-LICENSE-IN-LICENSE.md"),
        ({}, "NOASSERTION"),
        ([], "NOASSERTION"),
    ],
)
def test_license_of_an_npm_package(package, expected):
    assert licenses.license_of_package_json(json.dumps(package)) == expected
    assert licenses.license_of_package_json("{") == "NOASSERTION"


@pytest.mark.parametrize("text", ['{"license":' + "[" * 10_000, '{"a": ' + "1" * 5_000 + "}"])
def test_a_package_json_that_python_cannot_read_asserts_nothing(text):
    assert licenses.license_of_package_json(text) == "NOASSERTION"


@pytest.mark.parametrize(
    "name", [", or (a)", "| and AND, and ,AND and MIT", "(" * 9_000, " ()" * 100_000]
)
def test_a_name_that_is_no_expression_is_one_of_its_source(name):
    assert licenses.spdx(name).startswith("LicenseRef-")
    assert not licenses.is_allowed(name)


def test_debian_copyright_names_a_licence_for_each_file_and_the_last_match_holds():
    rules = licenses.DebianCopyright.parse(
        "Format: DEP-5\n\nFiles: *\nCopyright: A\nLicense: Expat\n\n"
        "Files: lib/*\n lib2/a.c\nCopyright: B\nLicense: GPL-2+\n\nLicense: Expat\n text\n"
    )
    assert rules.license_of("main.c") == "MIT"
    assert rules.license_of("lib/deep/a.c") == "GPL-2.0-or-later"
    assert rules.license_of("lib2/a.c") == "GPL-2.0-or-later"


def test_brackets_are_no_patterns_in_debian_copyright():
    rules = licenses.DebianCopyright.parse("Files: a[1].c\nLicense: Expat\n")
    assert [rules.license_of(path) for path in ("a[1].c", "a1.c")] == ["MIT", "NOASSERTION"]


def test_where_paths_are_not_those_of_the_source_all_licences_hold_but_that_of_the_packaging():
    rules = licenses.DebianCopyright.parse(
        "Files: *\nLicense: Expat or GPL-2\n\nFiles: lib/*\nLicense: ISC\n\n"
        "Files: debian/*\nLicense: GPL-3\n"
    )
    assert rules.license_of_all() == "(MIT OR GPL-2.0-only) AND ISC"
    assert licenses.DebianCopyright(()).license_of_all() == "NOASSERTION"


def test_debian_copyright_of_another_format_asserts_nothing():
    assert licenses.DebianCopyright.parse("It is free.\n").license_of("a.c") == "NOASSERTION"


def test_license_of_the_text_of_a_license_file():
    mit = "Permission is hereby granted,\n free of charge ... The above copyright notice and this"
    assert licenses.license_of_text(mit) == "MIT"
    assert licenses.license_of_text("Apache License\n   Version 2.0, January") == "Apache-2.0"
    assert licenses.license_of_text("All rights reserved.") == "NOASSERTION"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("GNU GENERAL PUBLIC LICENSE\n Version 2, June 1991", "GPL-2.0-only"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1", "LGPL-2.1-only"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3", "AGPL-3.0-only"),
        ("Mozilla Public License Version 2.0\n===", "MPL-2.0"),
    ],
)
def test_other_licences_are_known_by_the_title_of_their_text(title, expected):
    assert licenses.license_of_text(title) == expected


@pytest.mark.parametrize("path", ["LICENSE", "license.txt", "MIT-LICENSE", "COPYING"])
def test_license_files_stand_in_the_top_folder(path):
    assert licenses.is_license_file(path)
    assert not licenses.is_license_file(f"deps/{path}")
