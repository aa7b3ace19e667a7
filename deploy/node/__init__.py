"""Brings one Atoll node up on this machine, on its own supervisor; the quickstart and the tests stand on it."""
