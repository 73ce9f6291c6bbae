"""Small changes of Python source, each of which a test should notice.

Each is one replacement in the text, so that a survivor prints as a small diff. Left alone: annotations, strings,
decorators, a class's bases and options, `assert` and `check_integrity` (they test the rest), and lines of the log.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
_ARITHMETIC: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.FloorDiv(),
    ast.FloorDiv: ast.Mult(),
    ast.Div: ast.Mult(),
    ast.Mod: ast.Add(),
}
_FIELDS_LEFT_ALONE = {"annotation", "returns", "decorator_list", "bases", "pattern"}
_ANY_ORDER = {"min", "max"}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_Node = ast.expr | ast.stmt
_Change = tuple[_Node, str, str]
"""(what is replaced, the kind of change, the new text)"""


@dataclass(frozen=True)
class Mutation:
    """Bytes `start` to `end` of the file's UTF-8 become `text`."""

    start: int
    end: int
    text: str
    kind: str
    line: int
    """The first one that changes, from 1."""

    def applied(self, source: str) -> str:
        """The changed source."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()


def mutations(source: str) -> list[Mutation]:
    """All of them, in the order of the text."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int, str], Mutation] = {}
    for node in _touchable(ast.parse(source)):
        for target, kind, text in _changes(node):
            assert target.end_lineno is not None
            assert target.end_col_offset is not None
            start = starts[target.lineno - 1] + target.col_offset
            end = starts[target.end_lineno - 1] + target.end_col_offset
            found.setdefault((start, end, text), Mutation(start, end, text, kind, target.lineno))
    return [found[key] for key in sorted(found)]


def _touchable(node: ast.AST) -> Iterator[_Node]:
    for name, value in ast.iter_fields(node):
        if name in _FIELDS_LEFT_ALONE or (name == "keywords" and isinstance(node, ast.ClassDef)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                if isinstance(child, ast.expr | ast.stmt):
                    yield child
                yield from _touchable(child)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.FunctionDef(name="check_integrity"):
            return True
        case ast.Expr(value=ast.Constant() | ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case _:
            return False


def _changes(node: _Node) -> Iterator[_Change]:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=rights):
            for place, op in enumerate(ops):
                changed = [*ops[:place], _COMPARISONS[type(op)], *ops[place + 1 :]]
                yield node, "comparison", _text(ast.Compare(left, changed, rights))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            yield node, "arithmetic", _text(ast.BinOp(left, _ARITHMETIC[type(op)], right))
        case ast.BoolOp(op=op, values=values):
            yield node, "and/or", _text(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))
            for place in range(len(values)):
                rest = values[:place] + values[place + 1 :]
                yield node, "operand dropped", _text(rest[0] if len(rest) == 1 else ast.BoolOp(op, rest))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield node, "sign", _text(operand)
        case ast.Constant(value=bool(value)):
            yield node, "constant", repr(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, "constant", repr(value + 1)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield test, "condition", _text(ast.UnaryOp(ast.Not(), test))
        case ast.Call():
            yield from _calls(node)
        case ast.AugAssign(target=target, op=op, value=value):
            yield node, "statement removed", "pass"
            if type(op) in _ARITHMETIC:
                yield node, "arithmetic", ast.unparse(ast.AugAssign(target, _ARITHMETIC[type(op)], value))
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "statement removed", "pass"
        case ast.Return(value=None) | ast.Continue() | ast.Break():
            yield node, "statement removed", "pass"
        case ast.Return(value=value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, "return", "return None"


def _calls(call: ast.Call) -> Iterator[_Change]:
    if isinstance(call.func, ast.Name) and call.func.id in _FUNCTIONS:
        yield call.func, "function", _FUNCTIONS[call.func.id]
    any_order = isinstance(call.func, ast.Name) and call.func.id in _ANY_ORDER
    for place in range(0 if any_order else len(call.args) - 1):
        before, after = call.args[place : place + 2]
        if isinstance(before, ast.Starred) or isinstance(after, ast.Starred):
            continue
        if ast.dump(before) != ast.dump(after):
            swapped = [*call.args[:place], after, before, *call.args[place + 2 :]]
            yield call, "arguments swapped", _text(ast.Call(call.func, swapped, call.keywords))
    for place, keyword in enumerate(call.keywords):
        if keyword.arg is not None:
            rest = call.keywords[:place] + call.keywords[place + 1 :]
            yield call, "keyword dropped", _text(ast.Call(call.func, call.args, rest))


def _text(expression: ast.expr) -> str:
    # In parentheses, so that it stays one operand wherever it stands.
    return f"({ast.unparse(expression)})"
