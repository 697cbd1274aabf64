"""A process that works for another within limits of its own, so that input which hangs, eats or kills it costs little.

What it runs is a module of ours as `python -m MODULE FD ARGUMENT`: it opens its end with `begin`, sets its limits,
and answers each question until the line closes.
"""

import json
import os
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from components.common.errors import HeadraceError

STARTS_WITHIN = 600
"""Seconds: far more than the slowest machine needs."""


class Died(Exception):
    """The process ended before it answered: with which code, None if it was stopped because it took too long."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Line:
    """One end of the line between the two processes.

    It carries JSON. Input that takes over its parser can then say something wrong, and make nobody run anything, as
    what `multiprocessing` pickles could.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        """Send what JSON knows, or objects whose attributes JSON knows; lone surrogates pass.

        Raises:
            ConnectionError: Nobody is at the other end.
        """
        written = json.dumps(message, ensure_ascii=False, check_circular=False, default=vars)
        self._connection.send_bytes(written.encode("utf-8", "surrogatepass"))

    def receive(self) -> Any:
        """Wait for a message; objects come as their attributes.

        Raises:
            EOFError: The other end is closed.
        """
        return json.loads(self._connection.recv_bytes().decode("utf-8", "surrogatepass"))

    def poll(self, seconds: float) -> bool:
        """Wait for a message so long, and tell whether there is one."""
        return self._connection.poll(seconds)

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


class Child:
    """The process as seen from outside; it starts with the first question, and again after a death.

    Args:
        module: What it runs.
        argument: What it is told at the start.
        hint: What to do if it does not start, for the message.
    """

    def __init__(self, module: str, argument: str, hint: str) -> None:
        self._module = module
        self._argument = argument
        self._hint = hint
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None

    def ask(self, question: Any) -> None:
        """Put a question.

        Raises:
            Died: It died.
        """
        line = self._line or self._start()
        try:
            line.send(question)
        except ConnectionError as error:
            raise Died(self._ended()) from error

    def hear(self, seconds: float | None = None) -> Any:
        """Wait for an answer.

        Args:
            seconds: How long at most; for ever if not given.

        Raises:
            Died: It died, or took longer.
        """
        assert self._line is not None
        try:
            if seconds is not None and not self._line.poll(seconds):
                self.stop()
                raise Died(None)
            return self._line.receive()
        except (EOFError, ConnectionError) as error:
            raise Died(self._ended()) from error

    def stop(self) -> None:
        """End it; the next question starts another."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None

    def _start(self) -> Line:
        here, there = Pipe()
        command = [sys.executable, "-m", self._module, str(there.fileno()), self._argument]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
        )
        there.close()
        self._line = Line(here)
        try:
            self.hear(STARTS_WITHIN)
        except Died as error:
            raise HeadraceError(f"the process of {self._module} does not start; {self._hint}") from error
        return self._line

    def _ended(self) -> int:
        assert self._process is not None
        code = self._process.wait()
        self.stop()
        return code


def begin() -> tuple[Line, str]:
    """Open the child's end of the line, and give what it was told at the start.

    From here on nothing it prints is shown: the words of somebody's parser may quote the text.
    """
    line, argument = Line(Connection(int(sys.argv[1]))), sys.argv[2]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    line.send(True)
    return line, argument
