"""A process that parses for another, so that a document that hangs, eats or kills its parser costs only itself.

Limits are processor time for each document and address space for the process: neither depends on how busy the machine
is, so the same document meets the same fate on every run.
"""

import os
import resource
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from components.common.errors import HeadraceError
from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed, ParseError, Unparsed

REASONS = {reason.value: reason for reason in Unparsed}
PATIENCE = 10
"""Times its processor time that a document may take on the clock: for parsers that wait for ever without working."""


class Worker:
    """The parsing process as seen from outside; it starts with the first document and again after a death."""

    def __init__(self, options: Parse) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None

    def __enter__(self) -> Self:
        """Begin; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        self._stop()

    def parse(self, text: str, form: str, language: str = "") -> Parsed:
        """Parse one text in the process; see `formats.parse`.

        Raises:
            ParseError: The text cannot be parsed, or the process died of it.
        """
        if self._line is None:
            self._start()
        assert self._line is not None
        try:
            self._line.send((text, form, language))
            if not self._line.poll(self._options.cpu_seconds * PATIENCE):
                self._stop()
                raise ParseError(f"nothing for {self._options.cpu_seconds * PATIENCE:g} seconds", Unparsed.SLOW)
            answer = self._line.recv()
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        if isinstance(answer, Parsed):
            return answer
        reason, detail = answer
        if reason == Unparsed.MEMORY:
            self._stop()
        raise ParseError(detail, REASONS[reason])

    def _start(self) -> None:
        here, there = Pipe()
        options = self._options.model_dump_json()
        command = [sys.executable, "-m", "components.data.parse.worker", str(there.fileno()), options]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
        )
        there.close()
        self._line = here
        if not here.poll(600) or not self._started(here):
            self._stop()
            raise HeadraceError(
                f"the parsing process does not start within {self._options.memory_mib} MiB; raise data.parse.memory_mib"
            )

    @staticmethod
    def _started(line: Connection) -> bool:
        try:
            return bool(line.recv())
        except EOFError:
            return False

    def _death(self) -> ParseError:
        assert self._process is not None
        code = self._process.wait()
        self._stop()
        if code == -signal.SIGPROF:
            return ParseError(f"more than {self._options.cpu_seconds:g} seconds of processor time", Unparsed.SLOW)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ParseError(name, Unparsed.MEMORY if code == -signal.SIGKILL else Unparsed.CRASHED)

    def _stop(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None


def serve(line: Connection, options: Parse) -> None:
    """Answer each text with what it is when parsed, or with the reason and detail why not, until the line closes."""
    from components.data.parse.formats import parse

    limit = options.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    line.send(True)
    while True:
        try:
            text, form, language = line.recv()
        except (EOFError, ConnectionError):
            return
        answer: Parsed | tuple[str, str]
        signal.setitimer(signal.ITIMER_PROF, options.cpu_seconds)
        try:
            answer = parse(text, form, options, language)
        except ParseError as error:
            answer = error.reason.value, str(error)
        except MemoryError:
            answer = Unparsed.MEMORY.value, f"more than {options.memory_mib} MiB"
        except RecursionError:
            answer = Unparsed.MALFORMED.value, "it is nested too deeply"
        except Exception as error:  # whatever a parser of somebody else's format raises; its words may quote the text
            answer = Unparsed.MALFORMED.value, type(error).__name__
        signal.setitimer(signal.ITIMER_PROF, 0)
        line.send(answer)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), Parse.model_validate_json(sys.argv[2]))
