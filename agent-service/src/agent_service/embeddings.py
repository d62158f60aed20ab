"""Vectors that a run goes by, noted, so that a replay goes by the same."""

import base64
import hashlib
from array import array
from collections.abc import Awaitable, Callable, Sequence

import orjson

from agent_service.recording import Recording
from agent_service.siblings import side_by_side

type Vectors = Sequence[Sequence[float]]
type Embed = Callable[[Sequence[str]], Awaitable[Vectors]]


async def noted_vectors(texts: Sequence[str], *, model: str, embed: Embed, recording: Recording) -> Vectors:
    """A vector for each text, in single precision: by `embed`, or as they are noted.

    Texts of one prefix ("query", "passage") are noted together: passages are the same in every round of a run.
    """
    prefixes = [text.partition(":")[0] for text in texts]
    kinds = list(dict.fromkeys(prefixes))

    async def of_kind(kind: str) -> Vectors:
        own = [text for text, prefix in zip(texts, prefixes, strict=True) if prefix == kind]
        digest = hashlib.sha256(orjson.dumps([model, own])).hexdigest()

        async def produce() -> list[str]:
            return [base64.b64encode(array("f", vector).tobytes()).decode() for vector in await embed(own)]

        kept: list[str] = await recording.note(f"embed:{digest}", produce)
        return [array("f", base64.b64decode(vector)) for vector in kept]

    made = dict(zip(kinds, map(iter, await side_by_side(map(of_kind, kinds))), strict=True))
    return [next(made[prefix]) for prefix in prefixes]
