"""Options of release/progress."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from components.common.options import Options
from components.release.progress.selectors import parse_selector


def _selector(text: str) -> str:
    parse_selector(text)
    return text


Selector = Annotated[str, AfterValidator(_selector)]
"""A PromQL series selector; `$namespace`, `$service` and `$revision` are filled in."""

_REQUESTS = "gen_ai_server_request_duration_seconds_count"
_ANSWERS = "headrace_structured_answers_total"
_OWN = 'namespace="$namespace",headrace_revision="$revision"'
"""Two environments may serve the same revision, which is named by its content, and share a Prometheus."""


class Signal(Options):
    """What is compared between the candidate and the stable revision."""

    use: bool = Field(True, description="Compare it at all.")
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="Difference to the stable revision that a promotion must rule out."
    )
    margin: float = Field(1.0, ge=1, description="Odds ratio to the stable revision up to which nothing is aborted.")
    optional: bool = Field(False, description="Passes as long as neither revision has seen a request of its kind.")


class Proportion(Signal):
    """A share of failures among requests, from two counters."""

    trials: Selector = Field(description="Counter of requests; each series belongs to one process.")
    failures: Selector = Field(description="Counter of those that failed.")
    objective: float = Field(
        0.0, ge=0, lt=1, description="Share that is too much even if stable is no better; 0: none."
    )
    gateway: bool = Field(
        False, description="On the plane, count the gateway's answers instead; it sees broken connections too."
    )


class Quantile(Signal):
    """A distribution, from a histogram; a request fails if it is above the stable revision's quantile."""

    buckets: Selector = Field(description="Buckets of the histogram.")
    quantile: float = Field(0.95, gt=0, lt=1, description="Quantile that a promotion must not have made worse.")
    objective: float = Field(
        0.0, ge=0, description="Value of the quantile that is too much even if stable is no better; 0: none."
    )


class Errors(Proportion):
    """Answers with a status of 500 or more."""

    tolerance: float = Field(0.01, gt=0, lt=1, description="Share of the requests; 0.01 is one in a hundred.")
    trials: Selector = Field(
        f'{_REQUESTS}{{{_OWN},http_response_status_code!="499"}}',
        description="Counter of requests; each series belongs to one process.",
    )
    failures: Selector = Field(
        f'{_REQUESTS}{{{_OWN},http_response_status_code=~"5.."}}',
        description="Counter of those that failed.",
    )
    gateway: bool = Field(
        True, description="On the plane, count the gateway's answers instead; it sees broken connections too."
    )


class Latency(Quantile):
    """Seconds until the last byte of an answer."""

    tolerance: float = Field(
        0.05, gt=0, lt=1, description="Share of the requests beyond stable's quantile: at 0.95, 5 % become 10 %."
    )
    buckets: Selector = Field(
        f'gen_ai_server_request_duration_seconds_bucket{{{_OWN},http_response_status_code="200"}}',
        description="Buckets of the histogram.",
    )


class FirstToken(Quantile):
    """Seconds until the first text."""

    tolerance: float = Field(
        0.05, gt=0, lt=1, description="Share of the requests beyond stable's quantile: at 0.95, 5 % become 10 %."
    )
    buckets: Selector = Field(
        f"gen_ai_server_time_to_first_token_seconds_bucket{{{_OWN}}}",
        description="Buckets of the histogram.",
    )


class FormatErrors(Proportion):
    """Answers that are not the JSON that the request demanded."""

    tolerance: float = Field(0.02, gt=0, lt=1, description="Share of the requests that demand JSON.")
    optional: bool = Field(True, description="Passes as long as neither revision has seen a request of its kind.")
    trials: Selector = Field(f"{_ANSWERS}{{{_OWN}}}", description="Counter of answers to requests that demand JSON.")
    failures: Selector = Field(f'{_ANSWERS}{{{_OWN},headrace_valid="false"}}', description="Counter of the wrong ones.")


class Signals(Options):
    """What is compared; the candidate must pass on all, and the evidence against it is pooled."""

    errors: Errors = Field(default=Errors(), description="Answers with a status of 500 or more.")
    latency: Latency = Field(default=Latency(), description="Seconds until the last byte of an answer.")
    first_token: FirstToken = Field(default=FirstToken(), description="Seconds until the first text.")
    format_errors: FormatErrors = Field(
        default=FormatErrors(), description="Answers that are not the JSON that the request demanded."
    )
    further: dict[str, Proportion] = Field({}, description="More proportions by name: guard verdicts, judged quality.")

    def used(self) -> dict[str, Proportion | Quantile]:
        """The signals that take part, by name."""
        own: dict[str, Proportion | Quantile] = {
            "errors": self.errors,
            "latency": self.latency,
            "first_token": self.first_token,
            "format_errors": self.format_errors,
        }
        return {name: signal for name, signal in (own | self.further).items() if signal.use}


class Progress(Options):
    """How a candidate's share of the requests grows, and what stops it."""

    service: str = Field("", description="The InferenceService; the plan fills in release.publish.name.")
    steps: list[int] = Field(
        [5, 25, 50, 100], min_length=2, description="Shares in percent, ascending; the last is 100, the promotion."
    )
    false_abort: float = Field(
        0.01, gt=0, lt=0.5, description="Most probability of aborting a candidate that is no worse, over all looks."
    )
    false_promote: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Most probability of promoting one that is worse by a tolerance, over all looks.",
    )
    min_seconds_per_step: float = Field(60, ge=0, description="Time that each share lasts at least.")
    max_requests: int = Field(
        20_000, ge=1, description="Requests of the candidate after which it is held and somebody is paged."
    )
    max_seconds: float = Field(86_400, gt=0, description="Time after which it is held and somebody is paged.")
    look_seconds: float = Field(10, gt=0, description="Time between looks; half a second at most on the plane.")
    signals: Signals = Field(default=Signals(), description="What is compared.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        ascending = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        if not ascending or self.steps[0] < 1 or self.steps[-1] != 100:
            raise ValueError(f"steps {self.steps}: ascending percentages that end with 100, such as [5, 25, 50, 100]")
        if not self.signals.used():
            raise ValueError("signals: at least one must be used, or nothing is compared")
        own = set(Signals.model_fields)
        if taken := sorted(own & self.signals.further.keys()):
            raise ValueError(f"signals.further: {', '.join(taken)} is a signal already; choose another name")
        return self
