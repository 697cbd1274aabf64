"""Where messages go: a webhook that takes Slack's JSON, and e-mail.

Their addresses hold secrets. They come from the environment variables HEADRACE_WEBHOOK_URL and HEADRACE_SMTP_URL, which
the secret `headrace-notify` fills in a pod, and stand in no message, log or report.
"""

import logging
import os
import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import httpx

from components.common.environment import Environment, Notify
from components.common.errors import HeadraceError, UsageError

Severity = Literal["page", "notice"]
_MARKS: dict[str, str] = {"page": ":rotating_light:", "notice": ":information_source:"}
_PAUSES = (0.5, 2.0)
"""Seconds between attempts at a webhook that is busy or away."""


@dataclass(frozen=True)
class Message:
    """What people read."""

    severity: Severity
    title: str
    text: str
    link: str = ""


def alert(environment: Environment, severity: Severity, title: str, text: str, link: str = "") -> list[str]:
    """Send a message over every channel of an environment.

    Args:
        environment: Whose people.
        severity: `page` wakes somebody, `notice` waits until morning.
        title: What happened, in a few words.
        text: Why, in a sentence.
        link: Where to look.

    Returns:
        The channels it went over; empty where the environment names none.

    Raises:
        HeadraceError: No channel took it.
    """
    message = Message(severity, f"[{environment.name}] {title}", text, link)
    channels: dict[str, Callable[[Message, Notify], None]] = {"webhook": _post, "email": _mail}
    took: list[str] = []
    problems: list[HeadraceError] = []
    for channel in environment.notify.channels:
        try:
            channels[channel](message, environment.notify)
        except HeadraceError as error:
            problems.append(error)
        else:
            took.append(channel)
    if problems and not took:
        raise type(problems[0])("; ".join(map(str, problems)))
    for problem in problems:
        print(problem, flush=True)  # somebody was told; the pod's log is enough
    return took


def slack(message: Message) -> dict[str, Any]:
    """A message as Slack's blocks, with a plain text for those who do not know them."""
    title, text = message.title, _escaped(message.text)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
        {"type": "section", "text": {"type": "mrkdwn", "text": f"{_MARKS[message.severity]} {text}"[:3000]}},
    ]
    if message.link:
        look = {"type": "mrkdwn", "text": f"<{_escaped(message.link)}|Open the run>"}
        blocks.append({"type": "context", "elements": [look]})
    return {"text": f"{_escaped(title)}: {text}", "blocks": blocks}


def _post(message: Message, notify: Notify) -> None:
    address = _address("HEADRACE_WEBHOOK_URL", ("https", "http"))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs the address
    trouble = ""
    for pause in (*_PAUSES, 0.0):
        try:
            answer = httpx.post(address, json=slack(message), timeout=10)
        except httpx.HTTPError as error:
            trouble = f"cannot be reached ({type(error).__name__})"
        else:
            if answer.is_success:
                return
            trouble = f"answers {answer.status_code}"
            if answer.status_code != 429 and answer.status_code < 500:
                break
        time.sleep(pause)
    raise HeadraceError(f"the webhook {trouble}; check HEADRACE_WEBHOOK_URL in the secret headrace-notify")


def _mail(message: Message, notify: Notify) -> None:
    if not notify.recipients or not notify.sender:
        raise UsageError("notify.recipients or notify.sender is empty; e-mail needs both in the environment's file")
    parts = urlsplit(_address("HEADRACE_SMTP_URL", ("smtp", "smtps")))
    letter = EmailMessage()
    letter["Subject"] = " ".join(message.title.split())
    letter["From"] = notify.sender
    letter["To"] = ", ".join(notify.recipients)
    if message.severity == "page":
        letter["Importance"] = "high"
    letter.set_content(f"{message.text}\n" + (f"\n{message.link}\n" if message.link else ""))
    tls = ssl.create_default_context()
    host = parts.hostname or ""
    try:
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=20, context=tls)
        else:
            server = smtplib.SMTP(host, parts.port or 587, timeout=20)
        with server:
            if parts.scheme == "smtp":
                server.starttls(context=tls)
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(letter)
    except (smtplib.SMTPException, OSError) as error:
        reason = getattr(error, "smtp_code", "") or type(error).__name__
        raise HeadraceError(
            f"the mail server {host} refuses ({reason}); it must speak TLS and accept the account; check "
            "HEADRACE_SMTP_URL in the secret headrace-notify"
        ) from None


def _address(variable: str, schemes: tuple[str, ...]) -> str:
    address = os.environ.get(variable, "")
    if not address:
        raise UsageError(f"{variable} is not set; put it into the secret headrace-notify, or leave the channel out")
    try:
        parts = urlsplit(address)
        whole = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole:
        raise UsageError(f"{variable} is no {schemes[0]}:// address; correct it in the secret headrace-notify")
    return address


def _escaped(text: str) -> str:
    """Slack's own three: what else it finds between angle brackets, it takes for a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
