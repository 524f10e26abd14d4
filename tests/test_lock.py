"""One run at a time in a workdir."""

import os

import pytest

from fiancee_jax.errors import UserError
from fiancee_jax.training.lock import locked


def test_a_second_run_is_refused_and_names_the_first(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .* is training in"),
        locked(tmp_path),
    ):
        pytest.fail("entered")


def test_the_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 // 0
    with locked(tmp_path):
        pass
