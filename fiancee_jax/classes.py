"""Names of label classes, and what a model without names takes from a data set."""

from __future__ import annotations

from fiancee_jax.errors import UserError

VOID = "void"  # the class that carries no loss


def unnamed(count: int) -> tuple[str, ...]:
    """Stand-in names of `count` classes: void is 0, as in the published OASIS data."""
    return (VOID, *(f"class {i}" for i in range(1, count)))


def is_unnamed(names: tuple[str, ...]) -> bool:
    """Whether these are stand-ins."""
    return bool(names) and names == unnamed(len(names))


def agreed(own: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """The class names of a model that meets a data set.

    Args:
        own: the model's; none, stand-ins (`unnamed`), or real names.
        given: the data set's.

    Raises:
        UserError: real names that differ, or stand-ins of another count.
    """
    if is_unnamed(own):
        if len(own) != len(given):
            raise UserError(
                f"the data set has {len(given)} classes, but the model has {len(own)}, void "
                f"included. Give data whose classes.json lists {len(own)} names; the data set's "
                f"are: {', '.join(given)}."
            )
    elif own and own != given:
        raise UserError(
            f"the data set has classes {list(given)}, but the config (or the model) has "
            f"{list(own)}. Give data with the same classes.json, or leave model.classes empty to "
            "take the data set's."
        )
    return given
