"""Finds the functions, classes and the like of a source file with tree-sitter's grammars."""

from collections.abc import Iterator
from functools import cache
from importlib import import_module

from tree_sitter import Language, Node, Parser

from components.data.parse.parsed import Symbol

GRAMMARS = {
    "c": ("tree_sitter_c", "language"),
    "c#": ("tree_sitter_c_sharp", "language"),
    "c++": ("tree_sitter_cpp", "language"),
    "cuda": ("tree_sitter_cpp", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "kotlin": ("tree_sitter_kotlin", "language"),
    "python": ("tree_sitter_python", "language"),
    "ruby": ("tree_sitter_ruby", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "shell": ("tree_sitter_bash", "language"),
    "typescript": ("tree_sitter_typescript", "language_tsx"),
}
"""Module and function that give the grammar of a language."""

_KINDS = {
    "class": {
        "class_declaration",
        "class_definition",
        "class_specifier",
        "class",
        "enum_declaration",
        "enum_item",
        "enum_specifier",
        "impl_item",
        "interface_declaration",
        "object_declaration",
        "record_declaration",
        "struct_declaration",
        "struct_item",
        "struct_specifier",
        "trait_item",
        "type_alias_declaration",
        "type_declaration",
    },
    "function": {
        "function_declaration",
        "function_definition",
        "function_item",
        "generator_function_declaration",
        "macro_definition",
        "method",
        "method_declaration",
        "singleton_method",
    },
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
_AROUND = {
    "ambient_declaration",
    "declaration_list",
    "decorated_definition",
    "export_statement",
    "extern_crate",
    "internal_module",
    "linkage_specification",
    "mod_item",
    "module",
    "namespace_declaration",
    "namespace_definition",
    "template_declaration",
}
"""Nodes in which symbols lie that count as the file's own."""
_NAMES = {
    "identifier",
    "type_identifier",
    "constant",
    "word",
    "field_identifier",
    "simple_identifier",
    "property_identifier",
}


def find_symbols(text: str, language: str) -> tuple[Symbol, ...]:
    """Cut a source file into its symbols and the rest, each with the comment before it.

    Args:
        text: The file.
        language: As in `GRAMMARS`; a file in another one is not cut.

    Returns:
        Symbols by line; nothing of the file but blank lines is outside of all. None for a file without any.
    """
    if language not in GRAMMARS:
        return ()
    data = text.encode()
    lines = data.split(b"\n")
    taken: list[tuple[int, int, str, str]] = []
    for node, outer in _symbols(parser_of(language).parse(data).root_node):
        first = outer.start_point[0]
        while (before := outer.prev_sibling) is not None and "comment" in before.type and _touch(before, first):
            outer, first = before, before.start_point[0]
        last = _end(node) if outer.end_point[0] < node.end_point[0] else max(_end(node), node.end_point[0])
        first = max(first, taken[-1][1] + 1 if taken else 0)
        if first <= last:
            taken.append((first, last, _name(node), _KIND_OF[node.type]))
    if not taken:
        return ()
    symbols = [Symbol(name, kind, first + 1, last + 1, _cut(lines, first, last)) for first, last, name, kind in taken]
    gaps = zip([0, *(last + 1 for _, last, _, _ in taken)], [*(first for first, *_ in taken), len(lines)], strict=True)
    filled = ([number for number in range(*gap) if lines[number].strip()] for gap in gaps)
    rest = [Symbol("", "rest", said[0] + 1, said[-1] + 1, _cut(lines, said[0], said[-1])) for said in filled if said]
    return tuple(sorted([*symbols, *rest], key=lambda symbol: symbol.first_line))


@cache
def parser_of(language: str) -> Parser:
    """The parser of a language of `GRAMMARS`."""
    module, function = GRAMMARS[language]
    return Parser(Language(getattr(import_module(module), function)()))


def _symbols(root: Node) -> Iterator[tuple[Node, Node]]:
    """Yield each symbol with the outermost node that is nothing but it: a decorator, an export."""
    for child in root.named_children:
        if child.type in _KIND_OF:
            yield child, child
        elif child.type in _AROUND:
            found = list(_symbols(child))
            yield from ([(found[0][0], child)] if len(found) == 1 and child.type in _WRAPPERS else found)


_WRAPPERS = {"ambient_declaration", "decorated_definition", "export_statement", "template_declaration"}


def _touch(before: Node, first: int) -> bool:
    return _end(before) in (first - 1, first) and (
        before.prev_sibling is None or _end(before.prev_sibling) < before.start_point[0]
    )


def _end(node: Node) -> int:
    """Give a node's last line; one that ends before a line's first column ends on the line before."""
    row, column = node.end_point
    return row - 1 if column == 0 and row > node.start_point[0] else row


def _name(node: Node) -> str:
    named = node.child_by_field_name("name") or node.child_by_field_name("declarator") or node
    pending = [named]
    while pending:
        candidate = pending.pop(0)
        if candidate.type in _NAMES:
            return (candidate.text or b"").decode("utf-8", "replace")
        pending = [*candidate.named_children, *pending]
    return ""


def _cut(lines: list[bytes], first: int, last: int) -> str:
    return b"\n".join(lines[first : last + 1]).decode("utf-8", "replace").rstrip("\n") + "\n"
