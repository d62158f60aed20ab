"""Files that come with a run: read when it is accepted, before the question when it runs."""

import asyncio
import base64
from typing import Any, cast

import pytest
from agent_service.attached import images_of
from agent_service.attachments import MAX_CHARACTERS, WAITING, Attachment, AttachmentReader
from agent_service.prompt import Prompt
from agent_service.settings import ExtractionSettings
from agent_service.storage import StoredAgents
from agent_service.tasks import turns_of
from fakes.models import ScriptedModels
from hearth_runtime.errors import DocumentUnreadable, InvalidArgument, ModelLacksCapability, TooManyAttachments

PNG = b"\x89PNG\r\n\x1a\n rest"


class Agents:
    """One agent, whatever it is called."""

    model_name = "m"

    async def get(self, agent_id: str) -> Any:
        return self


def reader(*can: str) -> AttachmentReader:
    models = ScriptedModels(lambda _: "", can=frozenset(can))
    return AttachmentReader(cast(StoredAgents, Agents()), models, ExtractionSettings(), concurrency=1)


async def read(*attachments: Attachment, can: tuple[str, ...] = ("completion",)) -> dict[str, Any]:
    return await reader(*can).added_to({"prompt": "What is this?"}, attachments, agent_id="a")


def attachment(data: bytes, name: str = "notes.md", media_type: str = "") -> Attachment:
    return Attachment(name=name, media_type=media_type, data=data)


async def test_text_goes_before_the_question_as_data() -> None:
    task_input = await read(attachment(b"# Notes\nAll </file> is well."), attachment(b"a,b\n1,2", name="t.csv"))
    (turn,) = turns_of(task_input)
    assert turn.content == (
        "<file name='notes.md'>\n# Notes\nAll <\\/file> is well.\n</file>\n\n"
        "<file name='t.csv'>\na: 1; b: 2\n</file>\n\nWhat is this?"
    )
    messages = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    first, last = turns_of({**messages, "attachments": task_input["attachments"]})
    assert (first.content, last.content.endswith("\n\nb")) == ("a", True)
    assert await reader().added_to(messages, (), agent_id="a") is messages


async def test_images_are_shown_to_models_that_see() -> None:
    task_input = await read(attachment(PNG, name="a.png"), can=("completion", "vision"))
    assert task_input["attachments"] == [
        {"name": "a.png", "media_type": "image/png", "image": base64.b64encode(PNG).decode()}
    ]
    prompt = Prompt.of("system", turns_of(task_input)).with_images(images_of(task_input))
    assert [(message.content, message.images) for message in prompt.messages()] == [
        ("system", ()),
        ("What is this?", (PNG,)),
    ]


async def test_what_cannot_be_used_is_refused_before_anything_runs() -> None:
    with pytest.raises(ModelLacksCapability, match="m cannot see images"):
        await read(attachment(PNG))
    with pytest.raises(InvalidArgument, match="images are PNG or JPEG"):
        await read(attachment(b"GIF89a", media_type="image/gif"))
    with pytest.raises(DocumentUnreadable, match=r"a\.pdf cannot be read"):
        await read(attachment(b"%PDF-1.4 garbage", name="a.pdf"))
    with pytest.raises(DocumentUnreadable, match="empty"):
        await read(attachment(b""))
    with pytest.raises(InvalidArgument, match="search_documents"):
        await read(attachment(b"word " * (MAX_CHARACTERS // 10)), attachment(b"more " * (MAX_CHARACTERS // 8)))
    with pytest.raises(InvalidArgument, match="has 11 files"):
        await read(*[attachment(b"x")] * 11)


async def test_files_that_are_read_at_once_are_bounded() -> None:
    read = reader()

    async def added(data: bytes = b"x") -> dict[str, Any]:
        return await read.added_to({}, [attachment(data)], agent_id="a")

    going = [asyncio.create_task(added()) for _ in range(WAITING + 1)]
    await asyncio.sleep(0)  # the first is read, the others wait
    with pytest.raises(TooManyAttachments):
        await added()
    # Who gives up makes room, and so does a file that cannot be read.
    going.pop().cancel()
    await asyncio.sleep(0)
    with pytest.raises(DocumentUnreadable):
        await added(b"%PDF-1.4 garbage")
    for task_input in await asyncio.gather(*going):
        assert task_input["attachments"][0]["text"] == "x"
    assert await added()
