"""Names, shapes and axes of arrays are a contract with checkpoints and exports."""

import re

import pytest

from tests.golden.tables import FOLDER, TABLES

STATES = [name for name in TABLES if name.endswith("_state.txt")]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_equals_its_golden_file(name):
    golden = (FOLDER / name).read_text(encoding="utf-8")
    message = "if the change is meant, checkpoints change too: python -m tests.golden.tables"
    assert TABLES[name]() == golden, message


def test_every_golden_file_has_a_table():
    assert sorted(path.name for path in FOLDER.glob("*.txt")) == sorted(TABLES)


@pytest.mark.parametrize("name", STATES)
def test_no_large_array_lies_whole_on_every_device_where_two_dimensions_are_split(name):
    """What is whole there are norms, biases, tables, heads and Adafactor's rows and columns."""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        path, shape, mesh_axes = re.fullmatch(r"(\S+) \((.*?)\) .* \| \((.*)\)", line).groups()
        size = 1
        for axis in filter(None, shape.split(", ")):
            size *= int(axis.strip(","))
        split = {word for word in ("data", "model") if word in mesh_axes}
        assert split or size < 2_000_000, f"{path} has {size} numbers"
