"""Words of English and Korean text, and its sentences and clauses."""

import re
import unicodedata

_WORD = re.compile(r"\d+(?:[.,:/-]\d+)*|[^\W_]+(?:['’][a-z]+)?")
_PARTICLE = re.compile(
    "(?:(?<=..)|(?<=[^가-힣]))"  # behind Hangul a stem of two syllables has to stay
    "(?:으로부터|에서부터|이라고는|에게서는|으로서는|으로는|에서는|에게는|이라고|라고는|까지는|부터는|에서도|에게도|으로도|이라도"
    "|에서|에게|에는|에도|으로|로는|로서|로써|까지|부터|처럼|보다|마다|조차|마저|라고|라도|이나|이며|이고|께서|한테|하고"
    "|은|는|이|가|을|를|의|에|와|과|로|도|만|나|랑)$"
)
_SENTENCE = re.compile(r"(?<=[.!?。！？…])[\"'”’)\]]*\s+|\n+|(?<=[。！？])")
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|e\.g|i\.e|etc|vs|cf|Dr|Mr|Mrs|Ms|Prof|St|No|Inc|Ltd|Fig|approx)\.$")
_JOINTS = r";\s+|,\s+(?=(?:and|but|while|whereas|yet)\s)"
_KOREAN_ENDINGS = re.compile(
    r"(?:이고|하고|되고|있고|없고|였고|았고|었고|했고|됐고|이며|하며|되며|있으며|없으며|였으며|았으며|었으며|했으며|됐으며"
    r"|이지만|하지만|되지만|있지만|없지만|였지만|았지만|었지만|했지만|됐지만)(?:,\s*|\s+)(?=\S)"
)
_SHORTEST = 2
"""Fewest words of a clause that is a claim of its own."""


def composed(text: str) -> str:
    """Bring text to the form in which it is compared: composed (NFC) and case folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def words(text: str) -> list[str]:
    """Split text into words; a Korean word is split into its stem and the particle behind it, where there is one.

    `서울에서는` is `서울`, `에서는`, so that a word counts as the same with another particle. Particles are known by
    their form alone and only behind two syllables or more: it is no morphological analysis, and endings of verbs stay.
    """
    found = []
    for word in _WORD.findall(composed(text)):
        stem, particle = split_particle(word)
        found += [stem, particle] if particle else [stem]
    return found


def split_particle(word: str) -> tuple[str, str]:
    """Split a Korean word into stem and particle; the particle is empty where there is none."""
    found = _PARTICLE.search(word)
    return (word[: found.start()], found[0]) if found else (word, "")


def sentences(text: str) -> list[str]:
    """Split text into sentences; full stops of abbreviations, initials and numbers end none."""
    pieces: list[str] = []
    for piece in _SENTENCE.split(text):
        if pieces and _ABBREVIATION.search(pieces[-1]):
            pieces[-1] += f" {piece}"
        elif piece.strip():
            pieces.append(piece)
    return [piece.strip() for piece in pieces]


def clauses(text: str) -> list[str]:
    """Split text into clauses that can each be true or false: at sentences, semicolons and coordinating joints.

    English is divided at `, and`, `, but`, `, while` and the like; Korean behind the connective endings -고, -며 and
    -지만 of a verb or copula. A piece too short to claim something stays with its neighbour.
    """
    found: list[str] = []
    for sentence in sentences(text):
        begin = 0
        pieces = []
        for joint in re.finditer(f"{_JOINTS}|{_KOREAN_ENDINGS.pattern}", sentence):
            pieces.append(sentence[begin : joint.end()].strip(" ,;"))
            begin = joint.end()
        pieces.append(sentence[begin:].strip(" ,;"))
        kept: list[str] = []
        for piece in pieces:
            if kept and (len(piece.split()) < _SHORTEST or len(kept[-1].split()) < _SHORTEST):
                kept[-1] = f"{kept[-1]} {piece}"
            else:
                kept.append(piece)
        found += [piece for piece in kept if _WORD.search(piece)]
    return found
