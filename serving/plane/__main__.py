"""The plane's daemon; `headrace serve up` starts it."""

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.vault import Vault
from components.common.wrapping import open_vault
from serving.plane.api import application
from serving.plane.predictors import read_runtimes
from serving.plane.processes import end_orphans, is_free, write_pid
from serving.plane.supervisor import Supervisor


class _Api(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the daemon, which has more than one thing to close."""
        yield


def main() -> int:
    """Run the plane until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m serving.plane", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder for manifests, logs and pid files")
    parser.add_argument("--api_port", type=int, default=8081, help="port of the Kubernetes API")
    parser.add_argument("--gateway_port", type=int, default=8080, help="port that clients call")
    parser.add_argument("--runtimes", type=Path, help="YAML file: model format to command line")
    parser.add_argument("--workplace", type=json.loads, help="JSON: what of the environment says what opens models")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with _alone(arguments.home):
            asyncio.run(_serve(arguments))
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    for name, port in (("api", arguments.api_port), ("gateway", arguments.gateway_port)):
        if not is_free(port):
            raise HeadraceError(
                f"port {port} is in use: stop what listens there, or change serving.{name} of the environment"
            )
    for name in end_orphans(arguments.home):
        logging.getLogger("headrace.plane").info("killed %s, left by an earlier plane", name)
    vault = open_vault(Environment.model_validate(arguments.workplace)) if arguments.workplace else Vault()
    supervisor = Supervisor(arguments.home, arguments.gateway_port, read_runtimes(arguments.runtimes), vault)
    # Named as TCP, or asyncio leaves Nagle's algorithm on and every answer waits 40 ms for an acknowledgement.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", arguments.api_port))
        api = _Api(uvicorn.Config(application(supervisor), log_level="warning", lifespan="off", access_log=False))
        tasks = [asyncio.create_task(supervisor.run()), asyncio.create_task(api.serve(sockets=[listening]))]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, tasks[0].cancel)
        try:
            await tasks[0]
        except asyncio.CancelledError:
            logging.getLogger("headrace.plane").info("stopped")
        finally:
            tasks[1].cancel()
            await asyncio.gather(tasks[1], return_exceptions=True)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel lets go of however the process ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeadraceError(f"{home}: a serving plane runs there already") from None
        write_pid(home / "plane.json", os.getpid())
        yield
        (home / "plane.json").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
