"""Parses a document by the format that ingest noted; a format's parser is imported when the first such text comes."""

import base64
import binascii
import unicodedata

from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed, ParseError, Unparsed

BINARY = frozenset({"docx", "pdf", "pptx", "xlsx"})
"""Formats whose bytes travel as base64."""


def is_harmless(text: str, form: str, options: Parse) -> bool:
    """Tell whether a text needs no parser that could hang or die: also composing accents may take hours."""
    return (form == "code" and options.code == "whole") or (form in ("text", "csv", "tsv") and text.isascii())


def parse(text: str, form: str, options: Parse, language: str = "") -> Parsed:
    """Parse one text within `options.max_characters`.

    Args:
        text: The text as found; base64 of the bytes where the format is binary.
        form: `markdown`, `rst`, `html`, `latex`, `notebook`, `csv`, `tsv`, `code`, `docx`, `pdf`, `pptx`, `xlsx`;
            anything else is plain text.
        options: Bounds.
        language: Programming language of code.

    Raises:
        ParseError: The text breaks the rules of its format, or becomes too long a one.
    """
    result = _parse(text, form, options, language)
    if len(result.text) > options.max_characters:
        raise ParseError(f"{len(result.text):,} characters of text", Unparsed.BOMB)
    return result


def _parse(text: str, form: str, options: Parse, language: str) -> Parsed:
    if form == "code":
        whole = Parsed(text if text.endswith("\n") else text + "\n", "code")
        if options.code == "whole":
            return whole
        from components.data.parse.code import find_symbols

        return Parsed(whole.text, "code", symbols=find_symbols(whole.text, language))
    if form in BINARY:
        return _parse_binary(text, form, options)
    text = unicodedata.normalize("NFC", text)
    if form == "latex":
        from components.data.parse.latex import parse_latex

        return parse_latex(text, options)
    if form == "notebook":
        from components.data.parse.notebook import parse_notebook

        return parse_notebook(text)
    if form in ("csv", "tsv"):
        from components.data.parse.tables import parse_values

        return parse_values(text, "\t" if form == "tsv" else ",;\t|", options.table_rows)
    if form in ("markdown", "rst", "html"):
        from components.data.parse.markup import parse_markup

        return parse_markup(text, form)
    from components.data.parse.tables import plain

    return Parsed(plain(text), "text")


def _parse_binary(text: str, form: str, options: Parse) -> Parsed:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ParseError("its bytes are not base64") from error
    if form == "pdf":
        from components.data.parse.pdf import parse_pdf

        return parse_pdf(data, options)
    from components.data.parse.office import parse_docx, parse_pptx, parse_xlsx

    return {"docx": parse_docx, "pptx": parse_pptx, "xlsx": parse_xlsx}[form](data, options)
