"""robots.txt is read as RFC 9309 has it, and the line that decides is named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protego import Protego

from components.data.ingest.robots import directives, normal_path, read_reservations, read_robots, reserves

SITE = "https://site.example"

EXAMPLE = """User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""
"""The simple example of RFC 9309, 5.1."""

LONGEST = """User-Agent: foobot
Allow: /example/page/
Disallow: /example/page/disallowed.gif
"""
"""The longest match of RFC 9309, 5.2."""


@pytest.mark.parametrize(
    ("text", "agent", "path", "line"),
    [
        (EXAMPLE, "otherbot", "/a/b.gif", 2),
        (EXAMPLE, "otherbot", "/a/b.gif?x", 0),
        (EXAMPLE, "otherbot", "/example/", 3),
        (EXAMPLE, "otherbot", "/publications/x", 0),
        (EXAMPLE, "FooBot", "/", 7),
        (EXAMPLE, "foobot", "/example/page.html", 0),
        (EXAMPLE, "foobot", "/example/allowed.gif", 0),
        (EXAMPLE, "barbot", "/example/page.html", 13),
        (EXAMPLE, "bazbot", "/example/page.html", 13),
        (EXAMPLE, "barbot", "/example/", 0),
        (EXAMPLE, "quxbot", "/example/", 0),
        (LONGEST, "foobot", "/example/page/disallowed.gif", 3),
        (LONGEST, "foobot", "/example/page/other.gif", 0),
        # Groups of one name are one (2.2.1), `*` applies only without one, and no name is part of another.
        ("User-agent: a\nDisallow: /x\nUser-agent: b\nDisallow: /\nUser-agent: A\nDisallow: /y", "a", "/y", 6),
        ("User-agent: *\nDisallow: /\nUser-agent: a\nDisallow:\n", "a", "/x", 0),
        ("User-agent: head\nAllow: /\nUser-agent: *\nDisallow: /\n", "Headrace", "/x", 4),
        ("User-agent: Headrace/2.1 (x)\nDisallow: /\n", "Headrace", "/x", 2),
        ("Disallow: /\nUser-agent: b\nAllow: /\n", "b", "/x", 0),
        # Other records do not end a group (2.2.4); comments, case, and line ends of all systems.
        ("User-agent: a\nCrawl-delay: 1\nSitemap: x\nUser-agent: b\nDisallow: /\n", "a", "/x", 5),
        ("\ufeffUSER-AGENT : a # one\r\rdisALLOW:\t/x # two\r\n", "a", "/xy", 3),
        ("user-agent a\ndisallow /\n", "a", "/x", 2),
        # Equal rules: the one that allows (2.2.2). An empty rule is none.
        ("User-agent: a\nDisallow: /x\nAllow: /x\n", "a", "/x", 0),
        ("User-agent: a\nDisallow: \n", "a", "/", 0),
        # Special characters (2.2.3).
        ("User-agent: a\nDisallow: /this/path/exactly$\n", "a", "/this/path/exactly", 2),
        ("User-agent: a\nDisallow: /this/path/exactly$\n", "a", "/this/path/exactly/", 0),
        ("User-agent: a\nDisallow: /this/*/exactly\n", "a", "/this/is/a/path/exactly?x", 2),
        ("User-agent: a\nDisallow: /path/file-with-a-%2A.html\n", "a", "/path/file-with-a-*.html", 2),
        ("User-agent: a\nDisallow: /path/foo-%24\n", "a", "/path/foo-$", 2),
        ("User-agent: a\nDisallow: /a$b\n", "a", "/a$bc", 2),
        ("User-agent: a\nAllow: /page\nDisallow: /*.htm\n", "a", "/page.htm", 3),
        ("User-agent: a\nAllow: /$\nDisallow: /\n", "a", "/", 0),
        ("User-agent: a\nAllow: /$\nDisallow: /\n", "a", "/page", 3),
        ("User-agent: a\nDisallow: /*ab*a$\n", "a", "/xaba", 2),
        ("User-agent: a\nDisallow: /ab*ba$\n", "a", "/aba", 0),
        # Percent-encoding (2.2.2).
        ("User-agent: a\nDisallow: /foo/bar?baz=https://foo.bar\n", "a", "/foo/bar?baz=https%3A%2F%2Ffoo.bar", 2),
        ("User-agent: a\nDisallow: /foo/bar/ツ\n", "a", "/foo/bar/%E3%83%84", 2),
        ("User-agent: a\nDisallow: /foo/bar/%e3%83%84\n", "a", "/foo/bar/ツ", 2),
        ("User-agent: a\nDisallow: /foo/bar/%62%61%7A\n", "a", "/foo/bar/baz", 2),
        ("User-agent: a\nDisallow: /a%2fb\n", "a", "/a/b", 0),
        ("User-agent: a\nDisallow: /Case\n", "a", "/case", 0),
        ("User-agent: *\nDisallow: /\n", "a", "/robots.txt", 0),
        ("", "a", "/x", 0),
    ],
)
def test_the_published_cases_and_the_line_that_decides(text, agent, path, line):
    refusal = read_robots(text, agent).refuses(path)
    assert refusal.startswith(f"robots.txt, line {line}: ") if line else refusal == ""


PATH = st.text("ab/.", max_size=6).map(lambda text: f"/{text}")
PATTERN = st.text("ab/.*", max_size=6).map(lambda text: f"/{text}") | PATH.map(lambda text: f"{text}$")
GROUP = st.tuples(
    st.lists(st.sampled_from(["Headrace", "other", "*"]), min_size=1, max_size=2, unique=True),
    st.lists(st.tuples(st.sampled_from(["Allow", "Disallow"]), PATTERN), min_size=1, max_size=5),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(GROUP, max_size=3), PATH)
def test_the_decision_is_protegos_where_protego_keeps_to_the_rfc(groups, path):
    lines = []
    for agents, rules in groups:
        lines += [f"User-agent: {agent}" for agent in agents] + [f"{name}: {pattern}" for name, pattern in rules]
    text = "\n".join(lines)
    refusal = read_robots(text, "Headrace").refuses(path)
    assert (refusal == "") == Protego.parse(text).can_fetch(SITE + path, "Headrace")
    if refusal:
        number = int(refusal.removeprefix("robots.txt, line ").partition(":")[0])
        assert refusal.endswith(lines[number - 1])
        assert lines[number - 1].startswith("Disallow")


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.text(max_size=30))
def test_any_text_can_be_read_and_any_path_asked_about(text, path):
    robots = read_robots(f"User-agent: a\n{text}", "a")
    robots.refuses(path)
    assert normal_path(normal_path(path)) == normal_path(path)


def test_delays_and_sitemaps_are_read_and_nonsense_is_no_delay():
    text = "Sitemap: /s.xml\nUser-agent: *\nCrawl-delay: 9\nUser-agent: a\nCrawl-delay: 2.5\nDisallow: /x\n"
    assert read_robots(text, "a").delay == 2.5
    assert read_robots(text, "b").delay == 9
    assert read_robots(text, "b").sitemaps == ("/s.xml",)
    for odd in ("nan", "-1", "inf", "soon"):
        assert read_robots(f"User-agent: *\nCrawl-delay: {odd}\n", "a").delay == 0


def test_a_hostile_robots_txt_costs_little():
    rule = "Disallow: /" + "*a" * 60 + "b\n"
    text = "User-agent: *\n" + rule * (500 * 1024 // len(rule))
    robots = read_robots(text, "a")
    assert robots.refuses("/" + "a" * 2_000) == ""


def test_tags_of_pages_speak_to_the_crawler_they_name():
    assert directives(["noindex, NoFollow"], "Headrace") == {"noindex", "nofollow"}
    assert directives(["none"], "Headrace") == {"noindex", "nofollow"}
    assert directives(["googlebot: noindex, nofollow"], "Headrace") == set()
    assert directives(["googlebot: noindex", "headrace: noai, nofollow"], "Headrace") == {"noai", "nofollow"}
    assert directives(["max-snippet: 9, unavailable_after: 25 Jun 2030 15:00:00 PST, noindex"], "x") == {"noindex"}


def test_reservations_are_read_in_their_order():
    first, second = {"location": "/free/*", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}
    data = json.dumps([first, second | {"tdm-policy": "p"}, 3]).encode()
    rules = read_reservations(data)
    assert reserves(rules, "/free/a") == ""
    assert reserves(rules, "/a") == "tdmrep.json, entry 2: / is reserved under p"
    assert read_reservations(b"{}") == read_reservations(b"[[]]") == read_reservations(b"\xff") == ()
