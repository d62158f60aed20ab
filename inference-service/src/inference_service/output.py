"""A model's answer is not to be trusted: cleaned, bounded, and checked where a schema was asked for."""

from typing import Any, NoReturn

import jsonschema_rs
import orjson
from hearth_runtime.errors import FieldViolation, InvalidArgument, ModelOutputInvalid

# All C0 and C1 controls but tab and newline: they can move a terminal's cursor, and PostgreSQL stores no NUL.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
MAX_SCHEMA_CHARACTERS = 65_536


def clean(text: str) -> str:
    """`text` without control characters, and without halves of surrogate pairs."""
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()


class OutputSchema:
    """A JSON Schema that an answer must fit. It may not refer to other documents."""

    def __init__(self, text: str) -> None:
        """Raises InvalidArgument where `text` is no JSON Schema."""
        if len(text) > MAX_SCHEMA_CHARACTERS:
            _refuse(f"has {len(text)} characters: at most {MAX_SCHEMA_CHARACTERS}")
        try:
            self.schema: Any = orjson.loads(text)
            if not isinstance(self.schema, dict):
                _refuse("must be a JSON object")
            self._validator = jsonschema_rs.validator_for(self.schema, retriever=_no_other_document)
        except orjson.JSONDecodeError as error:
            _refuse(f"is not JSON: {error}")
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            _refuse(f"is not a JSON Schema: {str(error).splitlines()[0]}")

    def check(self, text: str) -> str:
        """The answer as compact JSON. Raises ModelOutputInvalid, saying where it does not fit."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ModelOutputInvalid(
                f"The model's answer is not JSON ({error}). A larger config.max_tokens may let it finish."
            ) from error
        for misfit in self._validator.iter_errors(value):
            where = "/".join(str(part) for part in misfit.instance_path) or "the whole"
            raise ModelOutputInvalid(
                f"The model's answer does not fit config.output_schema at {where}: {misfit.message}"
            )
        return orjson.dumps(value).decode()


def _refuse(message: str) -> NoReturn:
    raise InvalidArgument(
        f"output_schema {message}", fields=[FieldViolation(field="config.output_schema", message=message)]
    )


def _no_other_document(uri: str) -> NoReturn:
    raise ValueError(f"it refers to {uri}, and may not refer to other documents")
