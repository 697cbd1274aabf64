"""Turns office documents into Markdown: headings, lists, tables with header rows, formulas as LaTeX."""

import datetime
import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import mammoth
from lxml import etree
from pptx import Presentation
from pptx.shapes.base import BaseShape
from python_calamine import CalamineError, CalamineWorkbook

from components.data.parse.formulas import as_latex
from components.data.parse.markup import as_markdown, from_html
from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed, ParseError, Unparsed
from components.data.parse.tables import as_table, plain, printable, squeeze

_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_ENTITIES = tuple(
    word.encode(form) for word in ("<!DOCTYPE", "<!ENTITY") for form in ("utf-8", "utf-16-le", "utf-16-be")
)
_BEFORE = b"\xef\xbb\xbf\xff\xfe\0\t\r\n "
"""What may stand before the first mark of XML: space, byte-order marks, halves of characters."""
_MOST_PARTS = 20_000
_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Code'] => pre:separator('\\n')
p[style-name='Source Code'] => pre:separator('\\n')
p[style-name='HTML Preformatted'] => pre:separator('\\n')
p[style-name='macro'] => pre:separator('\\n')
r[style-name='Source Text'] => code
"""
_FORMULA = re.compile("\ue000(\\d+)\ue001")


def parse_docx(data: bytes, options: Parse) -> Parsed:
    """Parse a Word document.

    Raises:
        ParseError: It is none, or a bomb.
    """
    _unpacked(data, options)
    data, formulas = _without_formulas(data)
    html = mammoth.convert_to_html(io.BytesIO(data), style_map=_STYLES, convert_image=lambda image: []).value
    text = _FORMULA.sub(lambda match: formulas[int(match[1])], from_html(html))
    return as_markdown(printable(text))


def parse_pptx(data: bytes, options: Parse) -> Parsed:
    """Parse a presentation: a heading for each slide, its text as lists, tables, and notes as quotations.

    Raises:
        ParseError: It is none, or a bomb.
    """
    _unpacked(data, options)
    lines: list[str] = []
    cut = 0
    title = ""
    for number, slide in enumerate(Presentation(io.BytesIO(data)).slides, 1):
        _unwrap(slide.shapes.element)
        heading = slide.shapes.title
        name = " ".join(heading.text_frame.text.split()) if heading is not None else ""
        title = title or name
        lines += ["", f"## {name or f'Slide {number}'}", ""]
        for shape in _shapes(slide.shapes):
            if heading is not None and shape.shape_id == heading.shape_id:
                continue
            if getattr(shape, "has_table", False):
                rows = [[cell.text for cell in row.cells] for row in shape.table.rows]  # type: ignore[attr-defined]
                table, left_out = as_table(rows, options.table_rows)
                cut += left_out
                lines += ["", *table.split("\n")]
            elif shape.has_text_frame:
                for item in shape.text_frame.paragraphs:  # type: ignore[attr-defined]
                    said = " ".join(_said(item._p).split())
                    lines += [f"{'  ' * item.level}- {said}"] if said else []
                lines.append("")
        if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) and frame.text.strip():
            lines += ["", *(f"> {line}".rstrip() for line in frame.text.strip().split("\n")), ""]
    text = plain(squeeze(lines))
    return Parsed(text, "markdown", {"title": title} if title else {}, cut)


def parse_xlsx(data: bytes, options: Parse) -> Parsed:
    """Parse a workbook: a heading and a table for each sheet that holds something.

    Raises:
        ParseError: It is none, or a bomb.
    """
    _unpacked(data, options)
    parts: list[str] = []
    cut = 0
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        for name in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(name)
            rows = [cells for row in sheet.iter_rows() if any(cells := [_cell(value) for value in row])]
            table, left_out = as_table(rows, options.table_rows)
            cut += left_out
            if table:
                parts.append(f"## {name}\n\n{table}")
    except CalamineError as error:
        raise ParseError(f"calamine: {type(error).__name__}") from error
    return Parsed(plain("\n".join(parts)), "markdown", rows_cut=cut)


def _unpacked(data: bytes, options: Parse) -> None:
    """Look into a package before any parser does: how much it unpacks to, and whether its XML defines entities.

    Raises:
        ParseError: It is no package, or a bomb.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            parts = package.infolist()
            size = sum(part.file_size for part in parts)
            if size > options.unpacked_mib * 2**20 or len(parts) > _MOST_PARTS:
                raise ParseError(f"{len(parts):,} parts of together {size:,} bytes", Unparsed.BOMB)
            for part in parts:
                with package.open(part) as file:
                    is_markup = file.read(64).lstrip(_BEFORE).startswith(b"<")  # a package may call it anything
                if is_markup:
                    content = package.read(part)
                    if any(word in content for word in _ENTITIES):
                        raise ParseError("its XML has a document type, which office formats forbid", Unparsed.BOMB)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        problem = "it is encrypted" if "encrypted" in str(error) else type(error).__name__
        raise ParseError(f"it is no office document ({problem})") from error


def _without_formulas(data: bytes) -> tuple[bytes, list[str]]:
    """Put a mark into the text where each formula is, and give the formulas as LaTeX."""
    formulas: list[str] = []
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        document = package.read("word/document.xml") if "word/document.xml" in package.namelist() else b""
        if b"oMath" not in document:
            return data, formulas
        root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
        for formula in list(root.iter(f"{_MATH}oMath")):
            parent = formula.getparent()
            if parent is None:
                continue
            display = parent.tag == f"{_MATH}oMathPara"
            latex = as_latex(formula)
            run = etree.Element(f"{_WORD}r")
            etree.SubElement(run, f"{_WORD}t").text = f"\ue000{len(formulas)}\ue001"
            formulas.append(f"$${latex}$$" if display else f"${latex}$")
            run.tail = formula.tail
            parent.replace(formula, run)
        for paragraph in list(root.iter(f"{_MATH}oMathPara")):
            paragraph.tag = f"{_WORD}smartTag"  # mammoth reads through it
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
            for part in package.infolist():
                whole = etree.tostring(root) if part.filename == "word/document.xml" else package.read(part)
                out.writestr(part.filename, whole)
    return buffer.getvalue(), formulas


def _shapes(shapes: Any) -> Iterator[BaseShape]:
    """Yield shapes in the order in which they are read, groups opened."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _unwrap(tree: Any) -> None:
    """Put what is written for newer programs in its place: the library passes over a box with a formula as a whole."""
    for choice in list(tree.iter(f"{_COMPATIBLE}AlternateContent")):
        newer = choice.find(f"{_COMPATIBLE}Choice")
        parent = choice.getparent()
        if newer is not None and parent is not None:
            for child in list(newer):
                choice.addprevious(child)
            parent.remove(choice)


def _said(node: Any) -> str:
    """Give the words of a paragraph, formulas as LaTeX."""
    if node.tag in (f"{_MATH}oMath", f"{_MATH}oMathPara"):
        mark = "$$" if node.tag.endswith("Para") else "$"
        return f" {mark}{as_latex(node).strip()}{mark} "
    if node.tag == f"{_DRAWING}t":
        return node.text or ""
    return " " if node.tag == f"{_DRAWING}br" else "".join(map(_said, node))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()
