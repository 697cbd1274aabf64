"""Office formulas (OMML, ECMA-376 part 1, 22.1) as LaTeX."""

from lxml import etree

_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_NARY = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∬": r"\iint", "∮": r"\oint", "⋃": r"\bigcup", "⋂": r"\bigcap"}
_ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar", "\u20d7": r"\vec", "\u0307": r"\dot"}
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "min", "max", "lim", "det", "gcd", "sup", "inf"}
_SPECIAL = {character: f"\\{character}" for character in "#$%&_{}"} | {"\\": r"\backslash "}
_SYMBOLS = {
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "±": r"\pm ",
    "×": r"\times ",
    "·": r"\cdot ",
    "∞": r"\infty ",
    "→": r"\to ",
    "∈": r"\in ",
    "∂": r"\partial ",
    "∇": r"\nabla ",
}
_LETTERS = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_GREEK = {chr(0x3B1 + place): f"\\{name} " for place, name in enumerate(_LETTERS)}
_CHARACTERS = str.maketrans({**_SPECIAL, **_SYMBOLS, **_GREEK})


def as_latex(node: etree._Element) -> str:
    """Write a formula, or a part of one, as LaTeX without the dollars."""
    name = str(node.tag).removeprefix(_MATH)
    if name == "t":
        return (node.text or "").translate(_CHARACTERS)
    if name == "f":
        return rf"\frac{{{_of(node, 'num')}}}{{{_of(node, 'den')}}}"
    if name == "sSup":
        return f"{_base(node)}^{{{_of(node, 'sup')}}}"
    if name == "sSub":
        return f"{_base(node)}_{{{_of(node, 'sub')}}}"
    if name == "sSubSup":
        return f"{_base(node)}_{{{_of(node, 'sub')}}}^{{{_of(node, 'sup')}}}"
    if name == "rad":
        degree = _of(node, "deg")
        return rf"\sqrt{f'[{degree}]' if degree else ''}{{{_of(node, 'e')}}}"
    if name == "nary":
        sign = _NARY.get(_value(node, "chr", "∫"), _value(node, "chr", "∫"))
        bounds = "".join(
            f"{mark}{{{part}}}" for mark, part in (("_", _of(node, "sub")), ("^", _of(node, "sup"))) if part
        )
        return f"{sign}{bounds}{{{_of(node, 'e')}}}"
    if name == "d":
        inner = _value(node, "sepChr", ", ").join(as_latex(part) for part in node.findall(f"{_MATH}e"))
        return rf"\left{_bracket(_value(node, 'begChr', '('))}{inner}\right{_bracket(_value(node, 'endChr', ')'))}"
    if name == "m":
        rows = (" & ".join(as_latex(cell) for cell in row.findall(f"{_MATH}e")) for row in node.findall(f"{_MATH}mr"))
        whole = r" \\ ".join(rows)
        return rf"\begin{{matrix}}{whole}\end{{matrix}}"
    if name == "acc":
        return f"{_ACCENTS.get(_value(node, 'chr', chr(0x302)), chr(92) + 'hat')}{{{_of(node, 'e')}}}"
    if name == "func":
        function = _of(node, "fName").strip()
        return f"{f'{chr(92)}{function}' if function in _FUNCTIONS else function} {_of(node, 'e')}"
    if name.endswith("Pr"):
        return ""
    return "".join(as_latex(part) for part in node if isinstance(part.tag, str))


def _of(node: etree._Element, name: str) -> str:
    part = node.find(f"{_MATH}{name}")
    return as_latex(part).strip() if part is not None else ""


def _base(node: etree._Element) -> str:
    base = _of(node, "e")
    return base if len(base) == 1 else f"{{{base}}}"


def _value(node: etree._Element, name: str, default: str) -> str:
    """Read a property such as `<m:chr m:val="∑"/>`; one without a value is empty on purpose."""
    properties = node.find(f"{_MATH}{node.tag.removeprefix(_MATH)}Pr")
    found = properties.find(f"{_MATH}{name}") if properties is not None else None
    return default if found is None else found.get(f"{_MATH}val", "")


def _bracket(character: str) -> str:
    return {"": ".", "{": r"\{", "}": r"\}"}.get(character, character)
