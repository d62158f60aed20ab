"""The process that checks answers: what it says, and that nothing stops it for long."""

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest
from hearth_runtime.errors import InvalidArgument, ModelOutputInvalid
from inference_service.output import clean
from inference_service.output_schema import SchemaChecker
from inference_service.schema_process import check
from system.waiting import until

SCHEMA = '{"type": "object", "properties": {"names": {"items": {"type": "string", "pattern": "^[a-z]+$"}}}}'


@pytest.fixture
async def checker() -> AsyncIterator[SchemaChecker]:
    opened = SchemaChecker(seconds=1)
    yield opened
    await opened.close()


def test_an_answer_is_cleaned_and_made_compact() -> None:
    assert check("{}", ' {"a\\u0000": ["\\u001b[0m", 1.5, null, true]} ') == {"data": '{"a":["[0m",1.5,null,true]}'}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"names": ["ok", "NO"]}', 'does not fit output_schema at names.1: "NO" does not match'),
        ("[]", 'does not fit output_schema at its top: [] is not of type "object"'),
        ('{"names": ', "is not JSON"),
        ("[" * 5000, "is not JSON"),
        ('"\\ud800"', "is not JSON"),
    ],
)
def test_a_bad_answer_says_where(answer: str, words: str) -> None:
    assert words in str(check(SCHEMA, answer)["bad_answer"])


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"properties": {"a": {"type": "strin"}}}', "is not a JSON Schema at properties.a.type"),
        ('{"pattern": "("}', "is not a JSON Schema at pattern"),
        ('{"$ref": "http://127.0.0.1:9/"}', "may not refer to other documents"),
        ('{"$ref": "#/$defs/none"}', "none"),
        ('{"items": ' * 900 + "{}" + "}" * 900, "limit"),
    ],
)
def test_a_bad_schema_says_where(schema: str, words: str) -> None:
    bad = check(schema, None)["bad_schema"]
    assert bad is not None
    assert words in bad


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ('{"pattern": "^(a+)+$"}', f'"{"a" * 10_000}!"'),
        ('{"pattern": "^(?=a)(a|aa)+$(?!b)"}', f'"{"a" * 1000}!"'),
        ('{"$ref": "#"}', "1"),
        ('{"uniqueItems": true}', str(list(range(50_000)))),
    ],
)
async def test_what_could_take_long_does_not(checker: SchemaChecker, schema: str, answer: str) -> None:
    looked_at = await checker.schema(schema)
    async with asyncio.timeout(5):
        try:
            await checker.check(looked_at, answer)
        except ModelOutputInvalid as error:
            assert len(error.detail) < 1000  # noqa: PT017


async def test_it_goes_on_after_it_was_ended(checker: SchemaChecker) -> None:
    steps = ",".join(
        f'"a{i}": {{"allOf": [{{"$ref": "#/$defs/a{i + 1}"}}, {{"$ref": "#/$defs/a{i + 1}"}}]}}' for i in range(60)
    )
    endless = await checker.schema(f'{{"$defs": {{{steps}, "a60": {{"type": "integer"}}}}, "$ref": "#/$defs/a0"}}')
    with pytest.raises(ModelOutputInvalid, match="within 1 seconds"):
        await checker.check(endless, "1")
    assert await checker.check(await checker.schema(SCHEMA), "{}") == "{}"


async def test_it_goes_on_after_it_was_killed_between_checks(checker: SchemaChecker) -> None:
    schema = await checker.schema(SCHEMA)
    (child,) = (c for c in psutil.Process().children() if "inference_service.schema_process" in c.cmdline())
    child.kill()
    until(lambda: child.status() == psutil.STATUS_ZOMBIE)
    assert await checker.check(schema, "{}") == "{}"


async def test_who_is_cancelled_does_not_leave_an_answer_for_the_next(checker: SchemaChecker) -> None:
    schema = await checker.schema(SCHEMA)
    for delay in (0.0, 0.0005, 0.002):
        asked = asyncio.create_task(checker.check(schema, '{"names": ["first"]}'))
        await asyncio.sleep(delay)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert await checker.check(schema, '{"names": ["second"]}') == '{"names":["second"]}'


async def test_at_once_each_gets_its_own(checker: SchemaChecker) -> None:
    schema = await checker.schema(SCHEMA)
    answers = await asyncio.gather(*(checker.check(schema, f'{{"n": {n}}}') for n in range(50)))
    assert answers == [f'{{"n":{n}}}' for n in range(50)]


async def test_a_long_answer(checker: SchemaChecker) -> None:
    schema = await checker.schema("{}")
    text = f'"{"é" * 1_000_000}"'
    assert await checker.check(schema, text) == text


async def test_a_refused_schema_names_its_field(checker: SchemaChecker) -> None:
    with pytest.raises(InvalidArgument, match="output_schema is not JSON") as caught:
        await checker.schema("{")
    assert caught.value.fields[0].field == "options.output_schema"


def test_clean() -> None:
    assert clean("a\x00\x1b[1m\tb\r\n\x7f\x85\u2028é😀\ud800") == "a[1m\tb\n\u2028é😀?"
