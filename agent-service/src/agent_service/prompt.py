"""What a model is asked, in parts that differ in what may be left out of them, and how it is made to fit.

The policy: the system messages, the question and the closing instruction are never left out. Of the history the oldest
goes first, and whole. Where that is not enough, what was observed (tool results) loses its middle, the longest first.
Where even that is not enough the run fails: nobody wants the answer to a question that was cut.

Tokens are estimated from characters, and the estimate learns from what each model says that its prompts came to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.tasks import Turn

from agent_service.inference import Message

# Before a model has said anything: English is about four characters a token; code and most other languages have fewer.
FIRST_TOKENS_PER_CHARACTER = 1 / 3
# The template's own tokens around each message.
MESSAGE_TOKENS = 8
# An image, which each model cuts into patches of its own: 256 (Gemma 3) to over 1,000 (Qwen2.5-VL).
IMAGE_TOKENS = 768
LEARNING_RATE = 0.3
# A prompt below this teaches nothing: the template's tokens outweigh it.
LEAST_CHARACTERS = 200
# What was observed is never cut below this.
SHORTEST_CHARACTERS = 400
CUT_MARK = "\n[… {} characters left out …]\n"
MARK_CHARACTERS = len(CUT_MARK) + 10  # with its number


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The parts of a prompt, in the order in which the model reads them."""

    system: tuple[Message, ...] = ()
    history: tuple[Message, ...] = ()
    question: tuple[Message, ...] = ()
    observed: tuple[Message, ...] = ()
    closing: tuple[Message, ...] = ()

    @classmethod
    def of(cls, system_prompt: str | None, conversation: Sequence[Turn]) -> "Prompt":
        """The conversation, whose question is its last message of the user's and all that follows it."""
        turns = [turn for turn in conversation if turn.role != "system"]
        asked = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
        system = [] if not system_prompt else [Message(role="system", content=system_prompt)]
        system += [_message(turn) for turn in conversation if turn.role == "system"]
        return cls(
            system=tuple(system),
            history=tuple(_message(turn) for turn in turns[:asked]),
            question=tuple(_message(turn) for turn in turns[asked:]),
        )

    def with_images(self, images: Sequence[bytes]) -> "Prompt":
        """The prompt whose question shows these, besides."""
        if not images:
            return self
        *before, last = self.question
        return replace(self, question=(*before, replace(last, images=(*last.images, *images))))

    def with_rule(self, text: str) -> "Prompt":
        """The prompt with one more rule after the system's own."""
        return replace(self, system=(*self.system, Message(role="system", content=text)))

    def observing(self, *messages: Message) -> "Prompt":
        """The prompt with more that was observed."""
        return replace(self, observed=(*self.observed, *messages))

    def closing_with(self, text: str) -> "Prompt":
        """The prompt with an instruction at its end."""
        return replace(self, closing=(*self.closing, Message(role="user", content=text)))

    def messages(self) -> tuple[Message, ...]:
        """All parts in a row. Neighbours of one role, system or user, are one: many templates take no two."""
        joined: list[Message] = []
        for message in (*self.system, *self.history, *self.question, *self.observed, *self.closing):
            if joined and message.role == joined[-1].role and message.role in ("system", "user"):
                joined[-1] = replace(
                    joined[-1],
                    content=f"{joined[-1].content}\n\n{message.content}",
                    images=(*joined[-1].images, *message.images),
                )
            else:
                joined.append(message)
        return tuple(joined)


def _message(turn: Turn) -> Message:
    return Message(role=turn.role, content=turn.content)


class TokenEstimates:
    """How many tokens a text is, by model. One for the process; it starts afresh with it."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def of(self, model: str, messages: Sequence[Message]) -> int:
        """About how many tokens the messages come to."""
        return sum(
            self.of_text(model, _said(message)) + MESSAGE_TOKENS + IMAGE_TOKENS * len(message.images)
            for message in messages
        )

    def of_text(self, model: str, text: str) -> int:
        """About how many tokens the text comes to."""
        return math.ceil(len(text) * self._ratios.get(model, FIRST_TOKENS_PER_CHARACTER))

    def learn(self, model: str, messages: Sequence[Message], prompt_tokens: int, *, tools: str = "") -> None:
        """Takes in what the model said that these messages came to, with `tools`, the text of what it can call."""
        if any(message.images for message in messages):
            return
        characters = len(tools) + sum(len(_said(message)) for message in messages)
        own = prompt_tokens - MESSAGE_TOKENS * len(messages)
        if characters < LEAST_CHARACTERS or own <= 0:
            return
        known = self._ratios.get(model, FIRST_TOKENS_PER_CHARACTER)
        self._ratios[model] = known + LEARNING_RATE * (own / characters - known)


def _said(message: Message) -> str:
    """All text of the message that its model reads."""
    calls = (f"{call.name}{orjson.dumps(call.arguments).decode()}" for call in message.tool_calls)
    return "".join((message.content, *calls))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A prompt that fits, how many messages were dropped from it, and how many characters cut out of others."""

    prompt: Prompt
    dropped: int = 0
    cut_characters: int = 0


def fit(prompt: Prompt, *, model: str, limit_tokens: int, estimates: TokenEstimates) -> Fitted:
    """The prompt within `limit_tokens`, by the policy above. Raises InvalidArgument where it cannot be."""
    excess = estimates.of(model, prompt.messages()) - limit_tokens
    dropped = 0
    while excess > 0 and dropped < len(prompt.history):
        excess -= estimates.of(model, prompt.history[dropped : dropped + 1])
        dropped += 1
    observed, cut = list(prompt.observed), 0
    for index in sorted(range(len(observed)), key=lambda i: -len(observed[i].content)):
        content = observed[index].content
        if excess <= 0 or len(content) <= SHORTEST_CHARACTERS:
            break
        tokens = estimates.of_text(model, content)
        room = int(len(content) * max(tokens - excess, 0) / tokens) - MARK_CHARACTERS
        shorter = cut_middle(content, max(SHORTEST_CHARACTERS, room))
        observed[index] = replace(observed[index], content=shorter)
        cut += len(content) - len(shorter)
        excess -= tokens - estimates.of_text(model, shorter)
    if excess > 0:
        raise InvalidArgument(
            f"The question alone comes to about {limit_tokens + excess} tokens, and the model's context has room for "
            f"{limit_tokens}. Raise config.context_tokens as far as the model allows, or ask for less at once."
        )
    fitted = replace(prompt, history=prompt.history[dropped:], observed=tuple(observed))
    return Fitted(prompt=fitted, dropped=dropped, cut_characters=cut)


def as_data(text: str, **attributes: object) -> str:
    """The text marked as data, so that nothing in it can pass for an instruction of the run's or for the mark's end."""
    marks = "".join(f" {name}={orjson.dumps(value).decode()}" for name, value in attributes.items())
    inside = text.replace("</result", "<\\/result").replace("<result", "<\\result")
    return f"<result{marks}>\n{inside}\n</result>"


def cut_middle(text: str, characters: int) -> str:
    """The text without its middle, so that about `characters` are left, with a mark of how many went."""
    if len(text) <= characters + MARK_CHARACTERS:
        return text
    head = characters * 2 // 3
    tail = characters - head
    return text[:head] + CUT_MARK.format(len(text) - characters) + text[len(text) - tail :]
