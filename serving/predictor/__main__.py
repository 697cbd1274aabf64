"""`python -m serving.predictor`: serve one model version."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from components.common.errors import HeadraceError
from serving.predictor.engine import DEFAULT_CONTEXT, Engine, context_length

EXAMPLES = """
examples:
  serve a version on this machine, one CPU thread:
    python -m serving.predictor --model_dir models/tiny/3f2a --model_name tiny --http_port 8080

  talk to it:
    curl localhost:8080/openai/v1/chat/completions -H 'content-type: application/json' \\
      -d '{"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}'

  in a container:
    python -m serving.predictor --model_dir /mnt/models --model_name tiny --host 0.0.0.0 --revision tiny-3f2a

routes: /openai/v1/chat/completions, /openai/v1/completions, /openai/v1/models, /v2/health/live, /v2/health/ready,
/metrics. SIGTERM stops accepting, finishes what is running and exits with 0.
"""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.predictor",
        description="Serve one model version with OpenAI's API, as a KServe model server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model_dir", type=Path, required=True, help="the model version, a directory")
    parser.add_argument("--model_name", required=True, help="what clients call the model")
    parser.add_argument(
        "--revision", default="", help="which version answers, in every response and metric (default: the model's name)"
    )
    parser.add_argument("--http_port", type=_at_least(0), default=8080, help="default: 8080; 0 takes any free port")
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only; 0.0.0.0 in a container"
    )
    parser.add_argument(
        "--engine",
        choices=["llama.cpp", "transformers"],
        default="llama.cpp",
        help="llama.cpp reads model-*.gguf; transformers reads model.safetensors, slowly (default: llama.cpp)",
    )
    parser.add_argument(
        "--threads", type=_at_least(1), default=1, help="CPU threads, at most the free cores (default: 1)"
    )
    parser.add_argument(
        "--slots", type=_at_least(1), default=4, help="requests decoded together, llama.cpp only (default: 4)"
    )
    parser.add_argument(
        "--queue", type=_at_least(0), default=32, help="requests that may wait for a slot; more get a 503 (default: 32)"
    )
    parser.add_argument(
        "--max_model_len",
        type=_at_least(0),
        default=0,
        help=f"tokens of prompt and answer together (default: {DEFAULT_CONTEXT}, or the model's own if less)",
    )
    parser.add_argument(
        "--grace_seconds", type=_at_least(1), default=30, help="for running requests to end after SIGTERM (default: 30)"
    )
    return parser.parse_args(argv)


def open_engine(chosen: argparse.Namespace) -> Engine:
    """Load the model; only the engine that was chosen is imported.

    Raises:
        HeadraceError: The engine's packages are not installed.
    """
    context = context_length(chosen.model_dir, chosen.max_model_len)
    if chosen.engine == "transformers":
        try:
            from serving.predictor.transformers_engine import Transformers
        except ModuleNotFoundError as error:
            raise HeadraceError(
                f"{error.name} is not installed here: the predictor's image has llama.cpp only; serve with "
                "--engine llama.cpp, or install headrace[model] beside it"
            ) from error
        return Transformers(chosen.model_dir, chosen.threads, context)
    from serving.predictor.llamacpp import LlamaCpp

    return LlamaCpp(chosen.model_dir, chosen.threads, chosen.slots, context)


def main() -> None:
    """Serve until told to stop."""
    chosen = arguments()
    try:
        # KServe reads sys.argv when imported, so it comes after our own parser has had its say.
        from serving.predictor.metrics import Metrics
        from serving.predictor.server import ServedModel, listen, serve

        listener = listen(chosen.host, chosen.http_port)
        engine = open_engine(chosen)
        revision = chosen.revision or chosen.model_name
        metrics = Metrics(chosen.model_name, revision)
        model = ServedModel(chosen.model_name, revision, engine, chosen.queue, metrics)
        print("loaded {}; listening on http://{}:{}".format(revision, *listener.getsockname()), flush=True)
        serve(model, listener, chosen.grace_seconds)
    except HeadraceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


if __name__ == "__main__":
    main()
