"""The rating page, in a real browser and by keyboard alone; and what its server refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest
import uvicorn

from components.evaluation.ratings import sheets
from components.evaluation.ratings.scales import NAMES
from components.evaluation.ratings.server import HOST, Desk, application
from components.evaluation.ratings.study import make, read_study
from components.evaluation.ratings.words import WORDS
from serving.plane.processes import free_port
from tests.browser import browser

SAVED = "document.getElementById('rating').getAttribute('aria-busy') === 'false'"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    rows = [
        {
            "id": f"item-{item}",
            "question": question,
            "language": language,
            "quotable": True,
            "candidate": {"answer": f"<b>yes</b> {item}\n" + "word " * 60},
            "base": {"answer": ""},
        }
        for item, (question, language) in enumerate([("Which licence?", "en"), ("어떤 라이선스인가요?", "ko")])
    ]
    (evidence / "samples.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    make(evidence, tmp_path / "study", ["ada", "bora"], 1, 0, 1)
    return tmp_path / "study"


@pytest.fixture
def site(study: Path) -> Iterator[str]:
    """The page over a study, served."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application(Desk(study), port), host=HOST, port=port, log_level="error"))
    thread = Thread(target=server.run)
    thread.start()
    with httpx.Client(transport=httpx.HTTPTransport(retries=50)) as client:
        client.get(f"http://{HOST}:{port}/")
    yield f"http://{HOST}:{port}"
    server.should_exit = True
    thread.join()


def test_a_person_rates_everything_by_keyboard_and_comes_back_to_where_they_were(
    study: Path, site: str, tmp_path: Path
) -> None:
    order = read_study(study).orders["ada"]
    path = sheets.path_of(study, "ada")
    with browser(tmp_path) as page:
        page.open(site)
        for _ in range(2):  # the language, then the first rater
            page.press("Tab")
        page.press("Enter")
        page.wait("document.activeElement.name === 'usefulness'")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits a phone"
        assert page.evaluate("document.querySelector('article b')") is None, "answers are text"
        assert page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineStyle") == "solid"
        for value in "1234":
            page.press(value)
        page.wait(SAVED)
        assert page.evaluate("document.getElementById('said').textContent") == "Saved."
        assert sheets.read(path, read_study(study), "ada", whole=False)[order[0]] == dict(
            zip(NAMES, (1, 2, 3, 4), strict=False)
        )
        page.open(f"{site}/ada?lang=ko")
        page.wait("document.activeElement.name === 'bias'")
        assert "저장" not in page.evaluate("document.getElementById('said').textContent")
        assert page.evaluate("document.querySelector('h1').textContent") == "답변 평가"
        page.press("5")
        page.wait("document.activeElement.id === 'next'")
        page.wait(SAVED)
        assert page.evaluate("document.getElementById('said').textContent") == "저장됨."
        page.press("Enter")
        page.wait("location.search.includes('at=2') && document.activeElement.name === 'usefulness'")
        for value in "54321":
            page.press(value)
        page.press("Enter")  # at once: what is being saved is waited for
        page.wait("document.body.innerText.includes('모든 답변을 평가했습니다')")
        assert page.complaints == []
    rated = sheets.read(path, read_study(study), "ada")
    assert rated[order[0]] == dict(zip(NAMES, (1, 2, 3, 4, 5), strict=True))
    assert rated[order[1]] == dict(zip(NAMES, (5, 4, 3, 2, 1), strict=True))


def test_every_control_has_a_name_and_nothing_comes_from_elsewhere(study: Path, site: str) -> None:
    answer = httpx.get(f"{site}/ada", follow_redirects=True)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert "http://" not in answer.text.replace(site, "") and "https://" not in answer.text
    assert answer.text.count("<legend>") == 5 and answer.text.count('type="radio"') == 25
    assert answer.text.count("<label><input") == 25
    for words in WORDS.values():
        assert not set(words) & set(dir({})), "a template takes such a name for the dictionary's own"
    assert WORDS["en"]["shortcuts"] in answer.text
    korean = httpx.get(f"{site}/ada", headers={"accept-language": "ko-KR"}, follow_redirects=True)
    assert '<html lang="ko">' in korean.text


@pytest.mark.parametrize(
    ("said", "headers", "status"),
    [
        ({}, {"origin": "https://elsewhere.example.com"}, 403),
        ({}, {"origin": ""}, 403),
        ({}, {"content-type": "text/plain"}, 415),
        ({"value": 6}, {}, 400),
        ({"value": True}, {}, 400),
        ({"value": "5"}, {}, 400),
        ({"scale": "charm"}, {}, 404),
        ({"answer": "nobody"}, {}, 404),
        ({"answer": "x" * 2000}, {}, 400),
        ({"answer": ["a"]}, {}, 404),
        ({}, {"host": "attacker.example.com"}, 400),
        ({}, {}, 200),
    ],
)
def test_only_the_page_itself_may_rate_and_only_what_there_is(
    study: Path, site: str, said: dict, headers: dict, status: int
) -> None:
    value = {"answer": read_study(study).orders["ada"][0], "scale": "tone", "value": 3, **said}
    sent = {"origin": site, "content-type": "application/json", **headers}
    answer = httpx.post(f"{site}/ada", content=json.dumps(value), headers=sent)
    assert answer.status_code == status
    assert sheets.path_of(study, "ada").is_file() == (status == 200)


def test_an_unknown_rater_and_a_position_beyond_are_no_stack_trace(site: str) -> None:
    assert httpx.get(f"{site}/nobody").status_code == 404
    for at in ("0", "999999", "x", "9" * 5000, "-1"):
        assert httpx.get(f"{site}/ada", params={"at": at}, follow_redirects=True).status_code == 200
