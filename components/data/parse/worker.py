"""A process that parses for another, so that a document that hangs, eats or kills its parser costs only itself.

Limits are processor time for each document and address space for the process: neither depends on how busy the machine
is, so the same document meets the same fate on every run.
"""

import resource
import signal
from types import TracebackType
from typing import Self

from components.data.child import Child, Died, Line, begin
from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed, ParseError, Symbol, Unparsed

REASONS = {reason.value: reason for reason in Unparsed}
PATIENCE = 10
"""Times its processor time that a document may take on the clock: for parsers that wait for ever without working."""


class Worker:
    """The parsing process as seen from outside."""

    def __init__(self, options: Parse) -> None:
        self._options = options
        hint = f"raise data.parse.memory_mib above {options.memory_mib}"
        self._child = Child(__name__, options.model_dump_json(), hint)

    def __enter__(self) -> Self:
        """Begin; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        self._child.stop()

    def parse(self, text: str, form: str, language: str = "") -> Parsed:
        """Parse one text in the process; see `formats.parse`.

        Raises:
            ParseError: The text cannot be parsed, or the process died of it.
        """
        try:
            self._child.ask((text, form, language))
            answer = self._child.hear(self._options.cpu_seconds * PATIENCE)
        except Died as death:
            raise self._why(death.code) from death
        if "text" in answer:
            return Parsed(**{**answer, "symbols": tuple(Symbol(**symbol) for symbol in answer["symbols"])})
        reason, detail = answer["reason"], answer["detail"]
        if reason == Unparsed.MEMORY:
            self._child.stop()
        raise ParseError(detail, REASONS[reason])

    def _why(self, code: int | None) -> ParseError:
        if code is None:
            return ParseError(f"nothing for {self._options.cpu_seconds * PATIENCE:g} seconds", Unparsed.SLOW)
        if code == -signal.SIGPROF:
            return ParseError(f"more than {self._options.cpu_seconds:g} seconds of processor time", Unparsed.SLOW)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ParseError(name, Unparsed.MEMORY if code == -signal.SIGKILL else Unparsed.CRASHED)


def serve(line: Line, options: Parse) -> None:
    """Answer each text with what it is when parsed, or with the reason and detail why not, until the line closes."""
    from components.data.parse.formats import parse

    limit = options.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            text, form, language = line.receive()
        except (EOFError, ConnectionError):
            return
        answer: Parsed | dict[str, str]
        signal.setitimer(signal.ITIMER_PROF, options.cpu_seconds)
        try:
            answer = parse(text, form, options, language)
        except ParseError as error:
            answer = _refused(error.reason, str(error))
        except MemoryError:
            answer = _refused(Unparsed.MEMORY, f"more than {options.memory_mib} MiB")
        except RecursionError:
            answer = _refused(Unparsed.MALFORMED, "it is nested too deeply")
        except Exception as error:  # whatever a parser of somebody else's format raises; its words may quote the text
            answer = _refused(Unparsed.MALFORMED, type(error).__name__)
        signal.setitimer(signal.ITIMER_PROF, 0)
        line.send(answer)


def _refused(reason: Unparsed, detail: str) -> dict[str, str]:
    return {"reason": reason.value, "detail": detail}


if __name__ == "__main__":
    opened, told = begin()
    serve(opened, Parse.model_validate_json(told))
