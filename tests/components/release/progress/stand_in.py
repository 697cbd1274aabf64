"""A model server that is none: real HTTP and the predictor's own metrics, with the faults that its model folder names.

`behaviour.json` of the model folder: `errors`, the share of requests answered with 500 and marked `x-injected`;
`seconds`, the time an answer takes.
"""

import argparse
import asyncio
import json
import random
import time
from pathlib import Path

import uvicorn
from prometheus_client import REGISTRY, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serving.predictor.metrics import Metrics


def application(behaviour: dict[str, float], name: str, revision: str) -> Starlette:
    metrics = Metrics(name, revision)
    chance = random.Random(revision)

    async def ready(request: Request) -> Response:
        return PlainTextResponse("ready")

    async def exposed(request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type="text/plain")

    async def answer(request: Request) -> Response:
        began = time.perf_counter()
        metrics.began("chat")
        await request.body()
        await asyncio.sleep(behaviour["seconds"] * chance.lognormvariate(0, 0.3))
        failed = chance.random() < behaviour["errors"]
        took = time.perf_counter() - began
        if not failed:
            metrics.first_token("chat", took / 2)
        metrics.ended("chat", 500 if failed else 200, took)
        if failed:
            return JSONResponse({"error": "injected"}, 500, {"x-injected": "1"})
        return JSONResponse({"revision": revision})

    return Starlette(
        routes=[
            Route("/v2/health/ready", ready),
            Route("/metrics", exposed),
            Route("/openai/v1/chat/completions", answer, methods=["POST"]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--port", "--model_dir", "--name", "--revision"):
        parser.add_argument(name, required=True)
    chosen = parser.parse_args()
    behaviour = json.loads((Path(chosen.model_dir) / "behaviour.json").read_text())
    app = application(behaviour, chosen.name, chosen.revision)
    uvicorn.run(app, host="127.0.0.1", port=int(chosen.port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
