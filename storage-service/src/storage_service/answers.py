"""Answers: what each kind of request takes for one."""

from typing import Any

from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.tasks import PendingKind

CHOICES = "choices"


def check_answer(kind: PendingKind, arguments: dict[str, Any], answer: dict[str, Any], *, field: str) -> None:
    """Raises InvalidArgument where the answer is none to a request of this kind with these arguments; `field` is where
    it stands in the caller's request."""
    if kind is PendingKind.APPROVAL:
        if answer.get("decision") not in ("approve", "reject"):
            raise _invalid(f"{field}.decision", "must be approve or reject, since this asks for an approval")
        return
    if "output" not in answer:
        raise _invalid(f"{field}.output", f"must be there, since this is a {kind.value.replace('_', ' ')}")
    if kind is PendingKind.QUESTION:
        output, choices = answer["output"], arguments.get(CHOICES)
        if not isinstance(output, str):
            raise _invalid(f"{field}.output", "must be a text, since this is a question")
        if choices and output not in choices:
            raise _invalid(f"{field}.output", f"must be one of: {', '.join(choices)}")


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {message}.", fields=[FieldViolation(field=field, message=message)])
