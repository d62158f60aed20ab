"""A model's words are not to be trusted: they are cleaned before anything else is done with them."""

# All C0 and C1 controls but tab and newline: they can move a terminal's cursor, and PostgreSQL stores no NUL.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def clean(text: str) -> str:
    """`text` without control characters, and without halves of surrogate pairs."""
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()
