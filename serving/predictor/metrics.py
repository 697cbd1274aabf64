"""The predictor's metrics, and the only place that knows their names.

OpenTelemetry's GenAI conventions are still in development. The names below are theirs, written the Prometheus way:
dots become underscores and a unit of seconds becomes a suffix.
"""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from serving.predictor.engine import Completion

_REQUEST = ["gen_ai_operation_name", "gen_ai_request_model", "headrace_revision"]
_OBJECTIVE = 5.12
"""Seconds of the latency objective in `manifests/base/serving/rules.yaml`, which counts up to a bound."""
_SECONDS = tuple(float(f"{_OBJECTIVE * 1.2**step:.3g}") for step in range(-34, 18))
"""From 10 ms to 114 s, a fifth apart: fine enough to see a regression of 30 %."""
_SECONDS_PER_TOKEN = _SECONDS[::4]
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """Counts what one served revision does."""

    def __init__(self, model: str, revision: str, registry: CollectorRegistry = REGISTRY) -> None:
        """Register the metrics.

        Args:
            model: The model's name in requests.
            revision: What answers them.
            registry: Where `/metrics` reads from.
        """
        self._labels = (model, revision)
        self._active = Gauge(
            "http_server_active_requests",
            "Requests being answered (http.server.active_requests).",
            _REQUEST,
            registry=registry,
        )
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From request to the last byte (gen_ai.server.request.duration); _count counts requests.",
            [*_REQUEST, "http_response_status_code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From request to the first text (gen_ai.server.time_to_first_token).",
            _REQUEST,
            buckets=_SECONDS,
            registry=registry,
        )
        self._per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Per token after the first (gen_ai.server.time_per_output_token).",
            _REQUEST,
            buckets=_SECONDS_PER_TOKEN,
            registry=registry,
        )
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request (gen_ai.client.token.usage); _sum counts tokens.",
            [*_REQUEST, "gen_ai_token_type"],
            buckets=_TOKENS,
            registry=registry,
        )

        self._structured = Counter(
            "headrace_structured_answers",
            "Finished answers to requests that demanded JSON, by whether they are what was demanded.",
            [*_REQUEST, "headrace_valid"],
            registry=registry,
        )

    def began(self, operation: str) -> None:
        """A request came in."""
        self._active.labels(operation, *self._labels).inc()

    def ended(self, operation: str, status: int, seconds: float) -> None:
        """A request was answered, or given up by its client (499)."""
        self._active.labels(operation, *self._labels).dec()
        self._duration.labels(operation, *self._labels, str(status)).observe(seconds)

    def first_token(self, operation: str, seconds: float) -> None:
        """The first text left the engine."""
        self._first_token.labels(operation, *self._labels).observe(seconds)

    def structured(self, operation: str, valid: bool) -> None:
        """An answer was finished whose request demanded JSON, possibly of a schema."""
        self._structured.labels(operation, *self._labels, str(valid).lower()).inc()

    def generated(self, operation: str, completion: Completion, seconds: float) -> None:
        """The engine is done: tokens in and out, and the seconds since the first text."""
        self._tokens.labels(operation, *self._labels, "input").observe(completion.prompt_tokens)
        self._tokens.labels(operation, *self._labels, "output").observe(completion.completion_tokens)
        if completion.completion_tokens > 1:
            per_token = seconds / (completion.completion_tokens - 1)
            self._per_token.labels(operation, *self._labels).observe(per_token)
