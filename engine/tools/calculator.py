"""Arithmetic on decimal numbers. The expression is parsed into a syntax tree; it is never evaluated as code."""

import ast
import decimal
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from engine.contract.tools import Calculator as CalculatorSection
from engine.tools.base import Result

MAX_CHARS = 200  # of an expression; also bounds the depth of its tree
# 28 digits and magnitudes to 10^99: 9**9**9 overflows at once, and sums of money are exact.
NUMBERS = decimal.Context(prec=28, Emax=99, Emin=-99, traps=[decimal.Overflow, decimal.DivisionByZero, decimal.InvalidOperation])
OPERATORS: dict[type, Callable[..., Decimal]] = {
    ast.Add: NUMBERS.add,
    ast.Sub: NUMBERS.subtract,
    ast.Mult: NUMBERS.multiply,
    ast.Div: NUMBERS.divide,
    ast.Pow: NUMBERS.power,
    ast.USub: NUMBERS.minus,
    ast.UAdd: NUMBERS.plus,
}


def _round(value: Decimal, digits: Decimal = Decimal(0)) -> Decimal:
    return NUMBERS.quantize(value, NUMBERS.scaleb(Decimal(1), NUMBERS.minus(digits)))


FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": operator.abs, "max": max, "min": min, "round": _round}


class Calculator:
    """Computes sums, products, quotients, powers, and a few functions."""

    def __init__(self, section: CalculatorSection, root: str) -> None:
        self.description = f"computes an expression such as 12 * 3.50; knows + - * / ** and {', '.join(FUNCTIONS)}"

    def __call__(self, argument: str) -> Result:
        """Return the value of the expression `argument`, without trailing zeros."""
        if len(argument) > MAX_CHARS:
            return Result(f"an expression may have {MAX_CHARS} characters, found {len(argument)}", False)
        try:
            value = _value(ast.parse(argument.strip(), mode="eval").body, argument.strip())
        except (SyntaxError, ValueError, TypeError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            return Result(f"not an expression: {reason}", False)
        except decimal.DecimalException as error:
            return Result(REASONS.get(type(error), "cannot be computed"), False)
        return Result(_plain(value), True)


REASONS = {decimal.Overflow: "the result is too large", decimal.DivisionByZero: "division by zero"}


def _value(node: ast.AST, text: str) -> Decimal:
    """Return the value of a tree. Raises ValueError for a node that is not arithmetic."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return NUMBERS.create_decimal(ast.get_source_segment(text, node) or "")  # as written: 0.1 is no binary fraction
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, text), _value(right, text))
        case ast.UnaryOp(op, operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(operand, text))
        case ast.Call(ast.Name(name), args, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_value(argument, text) for argument in args))
    raise ValueError(f"found {type(node).__name__}, expected numbers, + - * / ** and {', '.join(FUNCTIONS)}")


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
