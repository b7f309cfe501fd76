"""What tests of training share."""

import pytest

from portraittalk_core.threads import one_torch_thread


@pytest.fixture(scope="module")
def one_thread():
    """The same sums on every machine, and no threads that wait for each other."""
    with one_torch_thread():
        yield
