"""The tool `calculator`: arithmetic, as models write it."""

import ast
import math
import operator
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

MAX_CHARACTERS = 500
# Results beyond this have more digits than anybody reads, and each further operation takes longer.
MAX_BITS = 4096
MAX_DIGITS = 300

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _round(value: float, digits: int = 0) -> int | float:
    """Without the powers of ten that Python makes for any number of digits."""
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise ValueError(f"round takes at most {MAX_DIGITS} digits")
    return round(value, digits) if digits else round(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "ceil": math.ceil,
    "cos": math.cos,
    "degrees": math.degrees,
    "exp": math.exp,
    "floor": math.floor,
    "gcd": math.gcd,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "radians": math.radians,
    "round": _round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
CONSTANTS = {"pi": math.pi, "e": math.e}
# What models write for what Python reads.
SPELLINGS = (
    (re.compile(r"[×✕·]"), "*"),
    (re.compile(r"(?<=[\d)\s])[xX](?=[\d(\s])"), "*"),
    (re.compile(r"[÷]"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\^"), "**"),
    (re.compile(r"(\d+(?:\.\d+)?)\s*%\s*of\b"), r"(\1/100)*"),
    (re.compile(r"(\d+(?:\.\d+)?)\s*%(?!\s*[\d(a-z])"), r"(\1/100)"),
    (re.compile(r"[$€£]|=\s*\??\s*$"), ""),
)
# 1,000,000: groups of digits. Among the arguments of a function a comma stands between two of them.
GROUPS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


class CalculatorError(Exception):
    """An expression that has no value, and why."""


def calculate(expression: str) -> int | float:
    """The value of the expression. Raises CalculatorError."""
    if len(expression) > MAX_CHARACTERS:
        raise CalculatorError(f"The expression is longer than {MAX_CHARACTERS} characters.")
    text = _without_groups(expression)
    for pattern, replacement in SPELLINGS:
        text = pattern.sub(replacement, text)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = _value(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CalculatorError(
            f"{expression!r} is no arithmetic: {getattr(error, 'msg', error)}. Write numbers, + - * / ** %, "
            "parentheses and functions such as sqrt(2)."
        ) from error
    except ZeroDivisionError as error:
        raise CalculatorError("A division by zero has no value.") from error
    except (OverflowError, TypeError) as error:
        raise CalculatorError(f"This cannot be calculated: {error}.") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise CalculatorError("The value is too large.")
    return value


def _without_groups(text: str) -> str:
    kept, of_function = [], [False]
    for place, character in enumerate(text):
        match character:
            case "(":
                of_function.append(of_function[-1] or text[:place].rstrip()[-1:].isalnum())
            case ")" if len(of_function) > 1:
                of_function.pop()
            case "," if not of_function[-1] and GROUPS.match(text, place):
                continue
        kept.append(character)
    return "".join(kept)


def _value(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _bounded(OPERATORS[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _bounded(FUNCTIONS[name](*(_value(argument) for argument in arguments)))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            known = ", ".join([*CONSTANTS, *FUNCTIONS])
            raise ValueError(f"{name} is unknown; there are {known}")
    raise ValueError("only numbers, operators and functions are allowed")


def _power(base: int | float, exponent: int | float) -> int | float:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_BITS:
        raise OverflowError("the power is too large")
    power: Any = base**exponent
    if isinstance(power, complex):
        raise ValueError("the root of a negative number is no real number")  # noqa: TRY004 - the value is wrong
    return _bounded(power)


def _bounded(value: Any) -> int | float:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError("the value is too large")
    if not isinstance(value, int | float):
        raise TypeError("the value is no number")
    return value


def _shown(value: int | float) -> str:
    """Without the dust of binary fractions: 0.1 + 0.2 is 0.3."""
    if isinstance(value, int):
        return str(value)
    return format(value, ".15g")


class Calculator:
    """The one tool of its kind."""

    spec = ToolSpec(
        name="calculator",
        description="Calculates what an arithmetic expression is: sums, products, percentages, for example 12 * 7.",
        parameters={
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_CHARACTERS,
                    "description": "The expression, such as 12.5 * 4",
                }
            },
            "required": ["expression"],
            "additionalProperties": False,
        },
        repeatable=True,
        timeout_seconds=5,
        result_characters=2000,
    )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        try:
            value = calculate(arguments["expression"])
        except CalculatorError as error:
            return ToolResult(content=str(error), is_error=True)
        return ToolResult(content=_shown(value), data={"value": value if abs(value) < 2**53 else str(value)})


class CalculatorKind:
    """`calculator`."""

    name = "calculator"
    description = "Arithmetic: + - * / // % **, parentheses, sqrt, log, sin and the like."
    config_schema: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        yield [Calculator()]
