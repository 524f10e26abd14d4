"""Class names: stand-ins give way to a data set's names, real names never do."""

import pytest

from fiancee_jax.classes import agreed, is_unnamed, unnamed
from fiancee_jax.errors import UserError


def test_unnamed_starts_with_void():
    assert unnamed(3) == ("void", "class 1", "class 2")
    assert is_unnamed(unnamed(3))
    assert not is_unnamed(())
    assert not is_unnamed(("void", "road", "sky"))


def test_no_names_and_stand_ins_take_the_data_sets():
    assert agreed((), ("a", "b")) == ("a", "b")
    assert agreed(unnamed(2), ("a", "b")) == ("a", "b")
    assert agreed(("a", "b"), ("a", "b")) == ("a", "b")


def test_another_count_is_refused():
    with pytest.raises(UserError, match=r"has 2 classes, but the model has 3, void included.*a, b"):
        agreed(unnamed(3), ("a", "b"))


def test_other_names_are_refused():
    with pytest.raises(UserError, match=r"\['b', 'a'\].*\['a', 'b'\].*same classes.json"):
        agreed(("a", "b"), ("b", "a"))
