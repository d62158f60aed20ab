"""The process that checks answers by JSON Schemas: `python -m inference_service.schema_process SECONDS`.

It reads a line `{"schema": TEXT, "answer": TEXT or null}` and writes a line with one key: `data` (the answer as compact
JSON; null where there was none to check), `bad_schema` or `bad_answer` (what is wrong). A check that takes more than
SECONDS of processor time (that a machine stalls is no fault of the check) ends it: both schema and answer are
strangers' work, and a small schema can ask for 2^60 steps, which no thread could be made to stop.
"""

import signal
import sys
from typing import Any, NoReturn

import jsonschema_rs
import orjson

from inference_service.output import clean

MAX_MESSAGE = 300


def check(schema_text: str, answer: str | None) -> dict[str, str | None]:
    """What to write for what was read."""
    try:
        validator = _validator(schema_text)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return {"bad_schema": str(error)[:MAX_MESSAGE]}
    if answer is None:
        return {"data": None}
    try:
        value = _cleaned(orjson.loads(answer))
    except orjson.JSONDecodeError as error:
        return {"bad_answer": f"is not JSON ({error}). A larger max_tokens may let it finish"}
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        where = ".".join(str(part) for part in error.instance_path) or "its top"
        return {"bad_answer": f"does not fit output_schema at {where[:MAX_MESSAGE]}: {error.message[:MAX_MESSAGE]}"}
    return {"data": orjson.dumps(value).decode()}


def _validator(text: str) -> Any:
    try:
        schema = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - a wrong value, whatever its type
    try:
        return jsonschema_rs.validator_for(schema, retriever=_no_other_document)
    except jsonschema_rs.ValidationError as error:
        where = ".".join(str(part) for part in error.instance_path) or "its top"
        raise ValueError(f"is not a JSON Schema at {where}: {error.message}") from error


def _no_other_document(uri: str) -> NoReturn:
    raise ValueError(f"refers to {uri}, and may not refer to other documents")


def _cleaned(value: Any) -> Any:
    """Escapes in JSON can hold what `clean` takes out of the text."""
    match value:
        case str():
            return clean(value)
        case list():
            return [_cleaned(v) for v in value]
        case dict():
            return {clean(k): _cleaned(v) for k, v in value.items()}
        case _:
            return value


def main() -> None:
    """Checks what stdin asks for, until it ends."""
    seconds = float(sys.argv[1])
    sys.setrecursionlimit(5_000)  # orjson takes 1024 levels
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process, whatever it is in the middle of
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer = check(asked["schema"], asked["answer"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
