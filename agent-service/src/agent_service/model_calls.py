"""The model calls of a run: each shown live as it comes, fitted to the model's context, and counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from hearth_runtime.agents import Agent
from hearth_runtime.errors import HearthError, InvalidArgument, ModelOutputInvalid
from hearth_runtime.events import EventKind, EventLevel

from agent_service.asked import Asked
from agent_service.budgets import Spent, failed_metadata
from agent_service.embeddings import noted_vectors
from agent_service.inference import Done, Message, Models, Notice, ToolCall
from agent_service.prompt import Prompt, TokenEstimates, fit
from agent_service.publisher import RunEvents
from agent_service.recording import RecordedAnswer, Recording, data_of
from agent_service.tool import ToolSpec
from agent_service.usage import count_tokens

# What an answer is given where neither the agent nor the caller bounds it, when a context must be shared with a prompt.
ANSWER_TOKENS = 512
# How often an answer that its schema does not allow is asked for again.
MAX_REPAIRS = 2


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said: its text, the same as JSON where a schema was asked for, the tools that it calls."""

    text: str
    data: Any
    tool_calls: tuple[ToolCall, ...]
    done: Done

    @property
    def spent(self) -> Spent:
        """What it took."""
        return Spent(
            prompt_tokens=self.done.prompt_tokens, completion_tokens=self.done.completion_tokens, model_calls=1
        )

    def output(self) -> dict[str, Any]:
        """The answer as a task's output: {"text", "data", "usage", "model"}."""
        return {"text": self.text, "data": self.data, "usage": self.done.usage(), "model": self.done.model}


class ModelCalls:
    """The calls of one attempt."""

    def __init__(
        self,
        models: Models,
        agent: Agent,
        events: RunEvents,
        *,
        estimates: TokenEstimates,
        embedding_model: str,
        timeout_seconds: float,
        recording: Recording,
    ) -> None:
        self._models = models
        self._agent = agent
        self._events = events
        self._estimates = estimates
        self._embedding_model = embedding_model
        self._timeout_seconds = timeout_seconds
        self._recording = recording
        self._can_call_tools: bool | None = None

    async def answer(self, call_id: str, prompt: Prompt, *, shown: bool = True) -> tuple[Answer, Spent]:
        """An answer as the agent's `output_schema` wants it, if it has one, and what it took. Raises as `valid`."""
        schema = self._agent.config.output_schema
        if schema is not None:
            return await self.valid(call_id, prompt, output_schema=schema, shown=shown)
        answer = await self.make(call_id, prompt, shown=shown)
        return answer, answer.spent

    async def valid(
        self,
        call_id: str,
        prompt: Prompt,
        *,
        output_schema: str,
        max_tokens: int | None = None,
        shown: bool = False,
    ) -> tuple[Answer, Spent]:
        """JSON that the schema allows, and what it took.

        An answer that is not is shown to the model again with what is wrong, MAX_REPAIRS times. Raises
        ModelOutputInvalid after that, and as `make`.
        """
        spent = Spent()
        asked = prompt
        for repair in range(MAX_REPAIRS + 1):
            try:
                answer = await self.make(
                    call_id if not repair else f"{call_id}:repair:{repair}",
                    asked,
                    output_schema=output_schema,
                    max_tokens=max_tokens,
                    shown=shown,
                )
            except ModelOutputInvalid as error:
                if repair == MAX_REPAIRS:
                    raise
                spent += Spent.of_failed(error)
                await self._events.log(EventLevel.WARNING, f"{error.detail} It is asked again.", code="repair")
                asked = prompt.closing_with(
                    f"Your last answer was not valid: {error.detail} Answer again, briefly and validly."
                )
            else:
                return answer, spent + answer.spent
        raise AssertionError("the loop above ends")

    async def make(
        self,
        call_id: str,
        prompt: Prompt,
        *,
        output_schema: str | None = None,
        tools: Sequence[ToolSpec] = (),
        max_tokens: int | None = None,
        temperature: float | None = None,
        shown: bool = False,
    ) -> Answer:
        """The model's answer to the prompt, JSON where `output_schema`, a JSON Schema, is given.

        `call_id` names the call within the task and is the same in every attempt. What is `shown` is for the client,
        live and as it comes; anything else is a decision of the run's, told whole when it is made. Raises the errors of
        hearth.inference.v1, and InvalidArgument where the prompt is too long.
        """
        asked = Asked.of(
            self._agent,
            prompt.messages(),
            output_schema=output_schema,
            tools=tools,
            options={"max_tokens": max_tokens, "temperature": temperature},
        )
        try:
            said = await self._recording.model_answer(call_id, asked)
            if said is None:
                said = await self._said(
                    prompt,
                    output_schema=output_schema,
                    tools=tools,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    shown=shown,
                )
            elif shown:
                await self._events.delta(said.text)
            data = data_of(said, output_schema)
        except HearthError as error:
            await self._events.log(
                EventLevel.DEBUG,
                f"The model call {call_id} failed: {error.detail}",
                code="call_failed",
                call=call_id,
                error={"code": error.code, "detail": error.detail, "metadata": error.metadata},
                asked=asked.to_json(),
            )
            raise
        await self._show(call_id, said, asked, shown=shown)
        return Answer(text=said.text, data=data, tool_calls=said.tool_calls, done=said.done)

    async def _said(
        self,
        prompt: Prompt,
        *,
        output_schema: str | None,
        tools: Sequence[ToolSpec],
        max_tokens: int | None,
        temperature: float | None,
        shown: bool,
    ) -> RecordedAnswer:
        """What the model says now."""
        tools_text = "".join(f"{t.name}{t.description}{orjson.dumps(t.parameters).decode()}" for t in tools)
        messages = (await self.fitted(prompt, max_tokens=max_tokens, tools_text=tools_text)).messages()
        pieces: list[str] = []
        calls: list[ToolCall] = []
        done: Done | None = None
        was_cut = False
        with self._counted(messages, tools_text, pieces):
            async for item in self._models.chat(
                self._agent,
                messages,
                timeout_seconds=self._timeout_seconds,
                output_schema=output_schema,
                tools=tools,
                max_tokens=max_tokens,
                temperature=temperature,
                # A decision has few tokens, and the thoughts of a model that thinks first would use them up.
                think=False if output_schema is not None and max_tokens is not None else None,
            ):
                match item:
                    case str():
                        pieces.append(item)
                        if shown:
                            await self._events.delta(item)
                    case Notice():
                        was_cut = was_cut or item.code == "cut"
                        await self._events.log(EventLevel.WARNING, item.message, code=item.code)
                    case ToolCall():
                        calls.append(item)
                    case Done():
                        done = item
            if done is None:
                raise ModelOutputInvalid("The model's answer broke off before its end.")
        count_tokens(self._agent, done)
        if not was_cut:  # else the model may not have been shown all of it
            self._estimates.learn(done.model, messages, done.prompt_tokens, tools=tools_text)
        return RecordedAnswer(text="".join(pieces), tool_calls=tuple(calls), done=done)

    @contextmanager
    def _counted(self, messages: Sequence[Message], tools_text: str, pieces: Sequence[str]) -> Iterator[None]:
        """An answer that cannot be used was work all the same. No host says how much: the error has the estimate."""
        try:
            yield
        except ModelOutputInvalid as error:
            model, estimates = self._agent.model_name, self._estimates
            prompt_tokens = estimates.of(model, messages) + estimates.of_text(model, tools_text)
            error.metadata |= failed_metadata(prompt_tokens, estimates.of_text(model, "".join(pieces)))
            raise

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The texts as vectors of the embedding model, in single precision."""

        async def embed(own: Sequence[str]) -> Sequence[Sequence[float]]:
            return await self._models.embed(
                own, model=self._embedding_model, fair_key=self._agent.id, timeout_seconds=self._timeout_seconds
            )

        return await noted_vectors(texts, model=self._embedding_model, embed=embed, recording=self._recording)

    async def can_call_tools(self) -> bool:
        """Whether the agent's model has native tool calls."""
        if self._can_call_tools is None:

            async def produce() -> bool:
                return "tools" in await self._models.capabilities(self._agent.model_name)

            self._can_call_tools = bool(await self._recording.note("can_call_tools", produce))
        return self._can_call_tools

    async def fitted(self, prompt: Prompt, *, max_tokens: int | None = None, tools_text: str = "") -> Prompt:
        """The prompt as the model's context has room for it, beside an answer of `max_tokens` and what describes the
        tools. What was left out is told by an event. Raises InvalidArgument where the question does not fit."""
        config = self._agent.config
        if config.context_tokens is None:
            return prompt
        room = config.context_tokens - min(max_tokens or config.max_tokens or ANSWER_TOKENS, config.context_tokens // 2)
        tool_tokens = self._estimates.of_text(self._agent.model_name, tools_text)
        if tool_tokens >= room:
            raise InvalidArgument(
                f"The agent's tools alone come to about {tool_tokens} tokens, and the model's context has room for "
                f"{room}. Raise config.context_tokens as far as the model allows, or give the agent fewer tools."
            )
        room -= tool_tokens
        fitted = fit(prompt, model=self._agent.model_name, limit_tokens=room, estimates=self._estimates)
        if fitted.dropped or fitted.cut_characters:
            await self._events.log(
                EventLevel.WARNING,
                f"To fit {config.context_tokens} tokens, {fitted.dropped} earlier messages and "
                f"{fitted.cut_characters} characters of tool results were left out.",
                code="context_cut",
                dropped_messages=fitted.dropped,
                cut_characters=fitted.cut_characters,
            )
        return fitted.prompt

    async def _show(self, call_id: str, said: RecordedAnswer, asked: Asked, *, shown: bool) -> None:
        done = said.done
        context: dict[str, Any] = {"role": "assistant", "model": done.model, "finish_reason": done.finish_reason}
        context |= {"call": call_id} if shown else {"call": call_id, "internal": True}
        if said.tool_calls:
            context["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in said.tool_calls]
        if done.data is not None:
            # As a rule the text is the data: it is not told twice.
            context["data"] = True if done.data == said.text else done.data
        await self._events.publish(EventKind.MESSAGE, message=said.text, context=context)
        await self._events.publish(
            EventKind.USAGE,
            message=f"{done.prompt_tokens} prompt tokens, {done.completion_tokens} completion tokens",
            context={
                "model": done.model,
                "host": done.host,
                "call": call_id,
                **done.usage(),
                "asked": asked.to_json(),
            },
        )
