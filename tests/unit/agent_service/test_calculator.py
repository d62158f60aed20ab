"""The calculator: what models write, and what they must not be able to do with it."""

import pytest
from agent_service.builtin.calculator import Calculator, CalculatorError, CalculatorKind, calculate
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * 7", 84),
        ("17 * (4 + 0.5)", 76.5),
        ("1,000,000 / 4", 250_000),
        ("2 x 3", 6),
        ("6 × 7 ÷ 2", 21),
        ("2^10", 1024),
        ("-3 ** 2", -9),
        ("15% * 80", 12),
        ("7 % 4", 3),
        ("15% of 80", 12),
        ("7 // 2", 3),
        ("sqrt(2) * sqrt(2)", 2.0000000000000004),
        ("max(1, 2, 3) - min(4, 5)", -1),
        ("$12.50 * 4 =", 50),
        ("round(pi, 2)", 3.14),
        ("round(2.5)", 2),
        ("15% of 240", 36),
        ("max(100,200)", 200),
        ("gcd(12,180)", 12),
        ("(1,000 + 2,500) * 2", 7000),
    ],
)
def test_what_models_write_is_understood(expression: str, value: float) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "no arithmetic"),
        ("twelve", "twelve is unknown; there are pi"),
        ("__import__('os')", "__import__ is unknown"),
        ("(1).real", "only numbers"),
        ("[1][0]", "only numbers"),
        ("'a' * 9", "only numbers"),
        ("True + 1", "only numbers"),
        ("9 ** 9 ** 9", "too large"),
        ("exp(1000)", "cannot be calculated"),
        ("1e308 * 10", "too large"),
        ("1 / 0", "division by zero"),
        ("sqrt(-1)", "no arithmetic"),
        ("(-8) ** 0.5", "root of a negative"),
        ("(" * 240 + "1" + ")" * 240, "no arithmetic"),
        ("sqrt", "only numbers"),
        ("1+" * 400 + "1", "longer than"),
        ("round(number=1)", "only numbers"),
        ("round(5, -10**9)", "at most 300 digits"),
        ("round(0.5, 10**9)", "at most 300 digits"),
        ("abs()", "cannot be calculated"),
    ],
)
def test_what_has_no_value_says_why(expression: str, says: str) -> None:
    with pytest.raises(CalculatorError, match=says):
        calculate(expression)


@given(st.text(alphabet="0123456789+-*/%^().,xe² sqrtlogpi", max_size=40))
def test_any_text_has_a_value_or_a_reason(expression: str) -> None:
    try:
        value = calculate(expression)
    except CalculatorError:
        return
    assert isinstance(value, int | float)


async def test_a_result_has_no_dust_of_binary_fractions() -> None:
    result = await Calculator().call({"expression": "0.1 + 0.2"}, call_id="c")
    assert (result.content, result.is_error) == ("0.3", False)


async def test_a_bad_expression_is_a_result_that_says_so() -> None:
    result = await Calculator().call({"expression": "a cat"}, call_id="c")
    assert result.is_error
    assert "sqrt(2)" in result.content


def test_it_is_installed() -> None:
    from agent_service.tool_kinds import ToolKinds

    assert isinstance(ToolKinds().get("calculator"), CalculatorKind)
