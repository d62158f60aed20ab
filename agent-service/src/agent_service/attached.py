"""What is attached to a run, as its task's input has it under "attachments":

[{"name", "media_type", "text"} | {"name", "media_type", "image": base64}].
"""

import base64
from typing import Any


def texts_before(content: str, task_input: dict[str, Any]) -> str:
    """The question after the texts of what is attached, which are marked as data."""
    texts = [file for file in task_input.get("attachments", ()) if "text" in file]
    return "\n\n".join([*(_as_file(file["name"], file["text"]) for file in texts), content])


def images_of(task_input: dict[str, Any]) -> tuple[bytes, ...]:
    """The images that are attached."""
    files = task_input.get("attachments", ())
    return tuple(base64.b64decode(file["image"]) for file in files if "image" in file)


def _as_file(name: str, text: str) -> str:
    inside = text.replace("</file", "<\\/file").replace("<file", "<\\file")
    return f"<file name={name!r}>\n{inside}\n</file>"
