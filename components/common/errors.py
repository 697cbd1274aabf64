"""Errors that a person can act on.

Everything raised on purpose is a `HeadraceError`: its message names what is wrong (file, line, field, port) and what to
do about it, and the `headrace` command prints it as one line and exits with `exit_code`.
"""

import errno

_MACHINE_TROUBLE = {
    errno.ENOSPC: "free some disk space and run again; what was finished is kept",
    errno.EDQUOT: "free some of this user's disk quota and run again; what was finished is kept",
    errno.EFBIG: "raise the file size limit and run again; what was finished is kept",
    errno.EACCES: "give this user access and run again",
    errno.EROFS: "choose a folder that can be written to and run again",
    errno.ENAMETOOLONG: "choose a folder with a shorter path and run again",
}


class HeadraceError(Exception):
    """The work failed for a reason that the message explains."""

    exit_code = 1


class UsageError(HeadraceError):
    """What was asked for is malformed: a recipe, an option, an argument."""

    exit_code = 2


class Interrupted(HeadraceError):
    """A person stopped the work; what was finished is kept."""

    exit_code = 130


class Preempted(HeadraceError, SystemExit):
    """This process was asked to end before its work was done, and kept what there is; the same work goes on from there.

    Nobody need catch it: it ends the process with its exit code (EX_TEMPFAIL of sysexits.h), after which to try again.
    """

    exit_code = 75

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = self.exit_code


class GateHold(HeadraceError):
    """A gate said no. The run itself was in order."""

    exit_code = 3


def machine_trouble(error: OSError) -> str:
    """Say what a person can do about a full disk or a missing permission; '' when it is something else."""
    fix = _MACHINE_TROUBLE.get(error.errno or 0)
    return f"{error.strerror}: {error.filename or 'while writing'}; {fix}" if fix else ""
