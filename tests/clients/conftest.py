"""Calls of a running server by the clients of others. `tests/integration/test_clients.py` starts it and runs these.

They run in an environment that has the clients and nothing of ours, so they import nothing of ours either.
"""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def address() -> str:
    """Host and port of the server, over HTTP."""
    return os.environ["TEST_ADDRESS"]


@pytest.fixture(scope="session")
def grpc_address() -> str:
    """The same over gRPC."""
    return os.environ["TEST_GRPC_ADDRESS"]
