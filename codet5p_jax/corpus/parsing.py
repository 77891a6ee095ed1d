"""Functions and methods of a source file, with the documentation that belongs to them."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator

import tree_sitter

from codet5p_jax.corpus.documentation import clean_comment, clean_docstring
from codet5p_jax.corpus.languages import LANGUAGES, Language, grammar

_DEEPEST = 20
_MOST_COMMENTS = 1_000  # lines: more are no documentation, and each takes longer to find
_NAME = re.compile(rb"[A-Za-z_$~][\w$]*[?!=]?\s*$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParsedFunction:
    """A function as it stands in its file.

    Attributes:
        code: Its text without the documentation, moved to the left margin.
        docstring: First paragraph of its documentation, or empty.
        name: Its own name, without class or namespace.
    """

    code: str
    docstring: str
    name: str


def parse_functions(content: bytes, language: str) -> list[ParsedFunction]:
    """Returns the named functions and methods of a file, in its order, nested ones included.

    Those inside of more than twenty others are left out: each repeats the text of all inside it,
    and 86 KB of them would be 258 MB.

    Args:
        content: The file, in UTF-8.
        language: A key of `LANGUAGES`.
    """
    spec = LANGUAGES[language]
    seen = content
    for macro in spec.macros:
        seen = macro.sub(_blanks, seen)
    tree = tree_sitter.Parser(grammar(language)).parse(seen)
    cursor = tree_sitter.QueryCursor(_query(language))
    nodes = cursor.captures(tree.root_node).get("function", [])
    nodes.sort(key=lambda node: node.start_byte)
    outer = _not_too_deep(nodes)
    return [function for node in outer for function in _parsed(node, content, language=spec)]


def _not_too_deep(nodes: Iterable[tree_sitter.Node]) -> Iterator[tree_sitter.Node]:
    """Yields the nodes, in the order of their starts, that lie in few others."""
    ends: list[int] = []  # of the nodes around
    for node in nodes:
        while ends and ends[-1] <= node.start_byte:
            ends.pop()
        if len(ends) <= _DEEPEST:
            yield node
        ends.append(node.end_byte)


def _blanks(macro: re.Match[bytes]) -> bytes:
    kept: bytes = macro["kept"]
    return kept + re.sub(rb"[^\n]", b" ", macro.group()[len(kept) :])


@functools.cache
def _query(language: str) -> tree_sitter.Query:
    nodes = " ".join(f"({node})" for node in LANGUAGES[language].functions)
    return tree_sitter.Query(grammar(language), f"[{nodes}] @function")


def _parsed(
    node: tree_sitter.Node, content: bytes, *, language: Language
) -> Iterator[ParsedFunction]:
    statement = _statement(node, language)
    name = _name(node) or _name_given(statement)
    if name is None:
        return
    outer = _outermost(node if statement is None else statement, language)
    if language.docstrings:
        code, docstring = _cut_docstring(node, outer, content)
    else:
        code = content[outer.start_byte : outer.end_byte]
        docstring = clean_comment(_comment_above(outer, content, language=language))
    yield ParsedFunction(
        code=_moved_left(code, outer.start_point[1]), docstring=docstring, name=name
    )


def _statement(node: tree_sitter.Node, language: Language) -> tree_sitter.Node | None:
    """The assignment or the like that gives an unnamed function its name."""
    parent = node.parent
    if parent is None or parent.type not in language.statements:
        return None
    return parent


def _outermost(node: tree_sitter.Node, language: Language) -> tree_sitter.Node:
    """The node that starts where the function's statement starts, decorators included."""
    while (parent := node.parent) is not None:
        wraps = parent.type in language.wrappers
        alone = node.type in language.statements and parent.named_child_count == 1
        declares = parent.type.endswith(("_declaration", "expression_statement"))
        if not wraps and not (alone and declares):
            return node
        node = parent
    return node


def _name(node: tree_sitter.Node) -> str | None:
    named = node.child_by_field_name("name")
    if named is not None:
        return _last_name(named)
    declared = inner = _declarator(node)  # C and C++: the name stands inside nested declarators
    is_function = False
    while inner is not None:
        if inner.type == "operator_cast":
            return b" ".join([b"operator", _type(inner)]).decode(errors="replace")
        is_function |= inner.type == "function_declarator"
        declared, inner = inner, _declarator(inner)
    # "class EXPORT Name {" and "MACRO_BEGIN namespace a {" are parsed as functions without one.
    if declared is None or (node.child_by_field_name("type") and not is_function):
        return None
    return _last_name(declared)


def _type(node: tree_sitter.Node) -> bytes:
    found = node.child_by_field_name("type")
    return b"" if found is None else found.text or b""


def _declarator(node: tree_sitter.Node) -> tree_sitter.Node | None:
    if node.type == "reference_declarator":
        return node.named_child(0)
    return node.child_by_field_name("declarator")


def _name_given(statement: tree_sitter.Node | None) -> str | None:
    if statement is None:
        return None
    for field in ("name", "left", "key"):
        if (found := statement.child_by_field_name(field)) is not None:
            return _last_name(found)
    return None


def _last_name(node: tree_sitter.Node) -> str | None:
    found = _NAME.search(node.text or b"")
    return found.group().strip().decode(errors="replace") if found else None


def _comment_above(node: tree_sitter.Node, content: bytes, *, language: Language) -> str:
    """The comment that ends on the line above `node`, or consecutive line comments that do."""
    first, row = None, node.start_point[0]
    for number, above in enumerate(_comments_before(node, language)):
        if number == _MOST_COMMENTS:
            return ""
        block = content[above.start_byte : above.start_byte + 2] in (b"/*", b"=b")
        documents = re.match(language.documentation, _text(above, content))
        if not documents or not _ends_above(above, row) or (block and first is not None):
            break
        first, row = above, above.start_point[0]
        if block:
            break
    if first is None or _shares_its_line(first):
        return ""
    return content[first.start_byte : node.start_byte].decode(errors="replace").strip()


def _comments_before(node: tree_sitter.Node, language: Language) -> Iterator[tree_sitter.Node]:
    """The comments right before `node`, the nearest first."""
    while node.prev_sibling is None and (parent := node.parent) is not None:
        if parent.start_byte != node.start_byte:
            return
        node = parent  # Ruby: the first method of a class starts its body
    above = node.prev_sibling
    while above is not None and above.type in language.comments:
        yield above
        above = above.prev_sibling


def _ends_above(comment: tree_sitter.Node, row: int) -> bool:
    end_row, end_column = comment.end_point
    return row - 1 <= (end_row - 1 if end_column == 0 else end_row) < row


def _shares_its_line(comment: tree_sitter.Node) -> bool:
    """Whether code stands before the comment on its line: then it belongs to that code."""
    before = comment.prev_sibling
    if before is None:
        return False
    row, column = before.end_point
    return row == comment.start_point[0] and column > 0


def _text(node: tree_sitter.Node, content: bytes) -> str:
    return content[node.start_byte : node.end_byte].decode(errors="replace")


def _cut_docstring(
    node: tree_sitter.Node, outer: tree_sitter.Node, content: bytes
) -> tuple[bytes, str]:
    body = node.child_by_field_name("body")
    first = body.named_child(0) if body is not None and body.named_child_count else None
    literal = first.named_child(0) if first is not None and first.named_child_count else None
    if literal is None or literal.type != "string" or first is None:
        return content[outer.start_byte : outer.end_byte], ""
    if first.type != "expression_statement" or first.named_child_count != 1:
        return content[outer.start_byte : outer.end_byte], ""
    before = content[outer.start_byte : first.start_byte]
    after = content[first.end_byte : outer.end_byte]
    return _joined(before, after), clean_docstring(_text(literal, content))


def _joined(before: bytes, after: bytes) -> bytes:
    if not after.strip():
        return before + b"pass"  # a body of a docstring alone would leave none
    return before + after.lstrip(b" \t\r\n;")


def _moved_left(code: bytes, columns: int) -> str:
    """`code` as text, with the indentation of its first line taken off all others."""
    text = code.decode(errors="replace")
    if not columns:
        return text
    return re.sub(rf"^[ \t]{{1,{columns}}}", "", text, flags=re.MULTILINE)
