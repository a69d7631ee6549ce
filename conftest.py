"""Imports the library whole before any of its modules is collected for doctests."""

import autobatch  # noqa: F401
