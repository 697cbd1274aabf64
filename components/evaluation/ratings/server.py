"""The page on which people rate: one answer at a time, on this machine only, saved after every choice."""

import re
import secrets
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from components.evaluation.ratings import sheets
from components.evaluation.ratings.scales import HIGHEST, LOWEST, NAMES, SCALES, Language
from components.evaluation.ratings.sheets import Ratings
from components.evaluation.ratings.study import read_study
from components.evaluation.ratings.words import WORDS

HOST = "127.0.0.1"
_LARGEST = 1000
"""Bytes of a request that says one value."""

_POSITION = re.compile(r"[0-9]{1,6}")

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


class Desk:
    """What has been rated in a study so far, kept on disk after every change.

    Args:
        folder: The study.

    Raises:
        HeadraceError: The folder holds no study, or a rater's file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.study = read_study(folder)
        self._folder = folder
        self._lock = Lock()
        self.ratings: dict[str, Ratings] = {}
        for rater in self.study.orders:
            path = sheets.path_of(folder, rater)
            self.ratings[rater] = sheets.read(path, self.study, rater, whole=False) if path.is_file() else {}

    def rate(self, rater: str, answer: str, scale: str, value: int) -> int:
        """Note a value; returns how many answers of the rater are rated on every scale."""
        with self._lock:
            rated = {name: dict(values) for name, values in self.ratings[rater].items()}
            rated.setdefault(answer, {})[scale] = value
            sheets.write(sheets.path_of(self._folder, rater), rated)
            self.ratings[rater] = rated
        return self.done(rater)

    def done(self, rater: str) -> int:
        """How many answers of a rater are rated on every scale."""
        return sum(len(values) == len(NAMES) for values in self.ratings[rater].values())

    def first_open(self, rater: str) -> int:
        """Position of the first answer that is not rated; the number of answers when all are."""
        order = self.study.orders[rater]
        rated = self.ratings[rater]
        return next((at for at, name in enumerate(order) if len(rated.get(name, {})) < len(NAMES)), len(order))


def application(desk: Desk, port: int) -> Starlette:
    """The web application over a study.

    Args:
        desk: The study.
        port: Where it will listen; requests from pages elsewhere are refused.
    """
    origins = {f"http://{host}:{port}" for host in (HOST, "localhost")}

    def people(request: Request) -> Response:
        language = _language(request)
        listed = [
            {
                "name": rater,
                "link": f"/{rater}?{urlencode({'lang': language})}",
                "done": desk.done(rater),
                "total": len(order),
            }
            for rater, order in desk.study.orders.items()
        ]
        return _page(language, {}, people=listed)

    def show(request: Request) -> Response:
        rater, language = request.path_params["rater"], _language(request)
        if rater not in desk.study.orders:
            return PlainTextResponse("There is no such rater in this study.", 404)
        order = desk.study.orders[rater]
        asked = request.query_params.get("at", "")
        if not asked:
            at = desk.first_open(rater) + 1
            return RedirectResponse(f"/{rater}?{urlencode({'lang': language, 'at': at})}", 303)
        at = min(max(int(asked), 1), len(order) + 1) if _POSITION.fullmatch(asked) else 1

        def link(position: int) -> str:
            return f"/{rater}?{urlencode({'lang': language, 'at': position})}"

        done = desk.done(rater)
        values: dict[str, Any] = {
            "done": done,
            "total": len(order),
            "finished": done == len(order),
            "back": link(at - 1) if at > 1 else "",
            "next": link(at + 1) if at <= len(order) else "",
        }
        if at <= len(order):
            name = order[at - 1]
            rated = desk.ratings[rater].get(name, {})
            values |= {
                "name": name,
                "shown": desk.study.answers[name],
                "rated": {scale: rated.get(scale, 0) for scale in NAMES},
            }
        elif done < len(order):
            return RedirectResponse(link(desk.first_open(rater) + 1), 303)
        return _page(language, {"at": str(at)}, **values)

    async def rate(request: Request) -> Response:
        rater = request.path_params["rater"]
        if request.headers.get("origin", "") not in origins:
            return PlainTextResponse("a page elsewhere may not rate", 403)
        if not request.headers.get("content-type", "").startswith("application/json"):
            return PlainTextResponse("send JSON", 415)
        body = await request.body()
        try:
            said: Any = await request.json() if len(body) <= _LARGEST else {}
            answer, scale, value = said["answer"], said["scale"], said["value"]
        except (ValueError, TypeError, KeyError):
            return PlainTextResponse("send answer, scale and value", 400)
        if rater not in desk.study.orders or answer not in desk.study.orders[rater] or scale not in NAMES:
            return PlainTextResponse("there is no such answer or scale for this rater", 404)
        if type(value) is not int or not LOWEST <= value <= HIGHEST:
            return PlainTextResponse(f"a value is a whole number from {LOWEST} to {HIGHEST}", 400)
        try:
            done = await run_in_threadpool(desk.rate, rater, answer, scale, value)
        except OSError as error:
            return PlainTextResponse(f"the disk says {error.strerror}", 500)
        return JSONResponse({"done": done, "total": len(desk.study.orders[rater])})

    return Starlette(
        routes=[Route("/", people), Route("/{rater}", show), Route("/{rater}", rate, methods=["POST"])],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


def serve(folder: Path, port: int) -> None:
    """Serve the page until interrupted, to this machine only.

    Raises:
        HeadraceError: The folder holds no study, or is being served already.
    """
    import uvicorn

    read_study(folder)
    with sheets.held(folder):
        uvicorn.run(application(Desk(folder), port), host=HOST, port=port, log_level="warning")


def _language(request: Request) -> Language:
    asked = request.query_params.get("lang", "") or request.headers.get("accept-language", "")
    return "ko" if asked.lower().startswith("ko") else "en"


def _page(language: Language, query: dict[str, str], **values: Any) -> Response:
    nonce = secrets.token_urlsafe(16)
    other: Language = "en" if language == "ko" else "ko"
    text = _TEMPLATES.get_template("rate.html.j2").render(
        language=language,
        words=WORDS[language],
        other=urlencode({"lang": other, **query}),
        other_language=other,
        scales=SCALES,
        lowest=LOWEST,
        highest=HIGHEST,
        nonce=nonce,
        **values,
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(
        text,
        headers={
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
