"""Fixtures of the end-to-end tests."""

from tests.launched import launch  # noqa: F401
