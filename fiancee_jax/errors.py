"""The one exception for mistakes in what a person gave us."""


class UserError(ValueError):
    """A mistake in the user's input: what was found, what was expected, how to mend it.

    The command line prints the message alone (no stack trace) and exits with status 2. The
    Python API raises it. Nothing has been compiled or overwritten when it is raised.
    """


class NonFiniteError(UserError):
    """Training met a value that is not finite; the last good checkpoint is untouched."""
