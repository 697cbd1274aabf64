"""Errors that a person can act on.

Everything raised on purpose is a `HeadraceError`: its message names what is wrong (file, line, field, port) and what to
do about it, and the `headrace` command prints it as one line and exits with `exit_code`.
"""


class HeadraceError(Exception):
    """The work failed for a reason that the message explains."""

    exit_code = 1


class UsageError(HeadraceError):
    """What was asked for is malformed: a recipe, an option, an argument."""

    exit_code = 2


class Interrupted(HeadraceError):
    """A person stopped the work; what was finished is kept."""

    exit_code = 130


class GateHold(HeadraceError):
    """A gate said no. The run itself was in order."""

    exit_code = 3
