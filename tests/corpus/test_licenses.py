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
        ("MIT-CMU", "LicenseRef-MIT-CMU"),
        ("My Own License!", "LicenseRef-My-Own-License-"),
        ("", "NOASSERTION"),
    ],
)
def test_names_become_spdx(name, expected):
    assert licenses.spdx(name) == expected


def test_an_or_needs_one_allowed_licence_and_an_and_all():
    assert licenses.is_allowed("GPL-2.0-or-later OR MIT")
    assert not licenses.is_allowed("GPL-2.0-or-later AND MIT")
    assert licenses.is_allowed("ISC AND MIT")
    assert not licenses.is_allowed("NOASSERTION")
    assert licenses.is_allowed("PSF-2.0", ("PSF-2.0",))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Name: a\nLicense-Expression: BSD-3-Clause\n", "BSD-3-Clause"),
        ("Name: a\nClassifier: License :: OSI Approved :: MIT License\n", "MIT"),
        ("Classifier: License :: OSI Approved :: Apache Software License\n", "Apache-2.0"),
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
        ({}, "NOASSERTION"),
        ([], "NOASSERTION"),
    ],
)
def test_license_of_an_npm_package(package, expected):
    assert licenses.license_of_package_json(json.dumps(package)) == expected
    assert licenses.license_of_package_json("{") == "NOASSERTION"


def test_debian_copyright_names_a_licence_for_each_file_and_the_last_match_holds():
    rules = licenses.DebianCopyright.parse(
        "Format: DEP-5\n\nFiles: *\nCopyright: A\nLicense: Expat\n\n"
        "Files: lib/*\n lib2/a.c\nCopyright: B\nLicense: GPL-2+\n\nLicense: Expat\n text\n"
    )
    assert rules.license_of("main.c") == "MIT"
    assert rules.license_of("lib/deep/a.c") == "GPL-2.0-or-later"
    assert rules.license_of("lib2/a.c") == "GPL-2.0-or-later"


def test_debian_copyright_of_another_format_asserts_nothing():
    assert licenses.DebianCopyright.parse("It is free.\n").license_of("a.c") == "NOASSERTION"


def test_license_of_the_text_of_a_license_file():
    mit = "Permission is hereby granted,\n free of charge ... The above copyright notice and this"
    assert licenses.license_of_text(mit) == "MIT"
    assert licenses.license_of_text("Apache License\n   Version 2.0, January") == "Apache-2.0"
    assert licenses.license_of_text("All rights reserved.") == "NOASSERTION"


@pytest.mark.parametrize("path", ["LICENSE", "license.txt", "MIT-LICENSE", "COPYING"])
def test_license_files_stand_in_the_top_folder(path):
    assert licenses.is_license_file(path)
    assert not licenses.is_license_file(f"deps/{path}")
