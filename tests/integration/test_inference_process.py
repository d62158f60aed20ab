"""`python -m inference_service`: how it starts and ends, what it traces and logs; and what real models do."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelLacksCapability, ModelNotFound, ModelRefused
from hearth_runtime.settings import RuntimeSettings
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from servers.inference import Heard, Inference, inference_on
from system.traces import TraceReceiver
from system.waiting import eventually

SMOLLM = "smollm2:135m"


class Spans(TraceReceiver):
    """Keeps the spans whole."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[Any] = []

    def Export(  # noqa: N802 - named by the protocol
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.whole += [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        return super().Export(request, context)


@asynccontextmanager
async def process(*arguments: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that is ended by SIGTERM, with what it wrote kept in its stdout."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "OLLAMA_", "OTEL_"))}
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        env={**inherited, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.fixture
def folder() -> Any:
    made = Path(tempfile.mkdtemp(prefix="h"))
    yield made
    shutil.rmtree(made)


async def test_the_process_traces_its_calls_and_ends_when_told(folder: Path) -> None:
    address = f"unix:{folder}/s"
    spans = Spans()
    with spans:
        async with (
            FakeOllama() as fake,
            process(
                "inference_service",
                HEARTH_LISTEN_ADDRESS=address,
                OLLAMA_URL=fake.url,
                OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint,
                HEARTH_LOG_FORMAT="json",
                HEARTH_LOG_LEVEL="DEBUG",
            ) as running,
            open_channel("inference", address, RuntimeSettings(rpc_timeout_seconds=20)) as channel,
        ):
            inference = Inference(channel=channel)
            fake.behave("m", Behaviour(), Behaviour(pieces=('{"a": "sesame"}',)), Behaviour(status=400))
            secret = [pb.ChatMessage(role="user", content="open sesame")]
            await inference.answer("m", messages=secret, seconds=20)
            with pytest.raises(Exception, match="sesame"):
                await inference.answer("m", messages=secret, output_schema='{"properties": {"a": {"type": "integer"}}}')
            with pytest.raises(ModelRefused):
                await inference.answer("m", messages=secret)

            asked = time.monotonic()
            running.send_signal(signal.SIGTERM)
            written, _ = await running.communicate()
            assert time.monotonic() - asked < 5
            assert running.returncode == 0
        calls = [s for s in spans.whole if s.name == "chat m"]
    assert len(calls) == 3
    attributes = {a.key: a.value.string_value or a.value.int_value for a in calls[0].attributes}
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.usage.input_tokens"] == 7
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert attributes["server.address"] == fake.url
    roots = {s.span_id for s in spans.whole if s.name.endswith("InferenceService/Chat")}
    assert {s.parent_span_id for s in calls} <= roots
    errors = [a.value.string_value for s in calls for a in s.attributes if a.key == "error.type"]
    assert errors == ["model_output_invalid", "model_refused"]
    assert b"a model call failed" in written
    assert b"sesame" not in written
    assert not any("sesame" in str(s) for s in spans.whole)


async def test_spans_hold_prompts_and_answers_where_that_is_asked_for(folder: Path) -> None:
    address = f"unix:{folder}/s"
    spans = Spans()
    with spans:
        async with (
            FakeOllama() as fake,
            process(
                "inference_service",
                HEARTH_LISTEN_ADDRESS=address,
                OLLAMA_URL=fake.url,
                OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint,
                HEARTH_TRACE_CONTENT="true",
            ) as running,
            open_channel("inference", address, RuntimeSettings(rpc_timeout_seconds=20)) as channel,
        ):
            fake.behave("m", Behaviour(pieces=("It ", "opens.")))
            secret = [pb.ChatMessage(role="user", content="open sesame " * 10_000)]
            await Inference(channel=channel).answer("m", messages=secret, seconds=20)
            running.send_signal(signal.SIGTERM)
            await running.communicate()
        (call,) = (s for s in spans.whole if s.name == "chat m")
    texts = {a.key: a.value.string_value for a in call.attributes}
    assert texts["gen_ai.input.messages"].startswith('[{"role":"user","parts":[{"type":"text","content":"open sesame')
    assert len(texts["gen_ai.input.messages"]) == 20_000
    assert texts["gen_ai.output.messages"] == ('[{"role":"assistant","parts":[{"type":"text","content":"It opens."}]}]')


async def test_what_is_under_way_at_sigterm_ends_or_may_be_repeated_within_the_grace_period(folder: Path) -> None:
    """What has begun ends, or ends in an error that may pass; what has not goes to whoever serves there next."""
    address = f"unix:{folder}/s"
    async with FakeOllama() as fake, AsyncExitStack() as stack:
        env = {"HEARTH_LISTEN_ADDRESS": address, "OLLAMA_URL": fake.url, "HEARTH_GRACE_SECONDS": "3"}
        running = await stack.enter_async_context(process("inference_service", **env))
        channel = await stack.enter_async_context(open_channel("inference", address, RuntimeSettings()))
        inference = Inference(channel=channel)
        fake.behave("short", Behaviour(seconds_between=0.3))
        fake.behave("endless", Behaviour(pieces=("word ",) * 10_000, seconds_between=0.02))
        fake.behave("silent", Behaviour(stall_after=0), Behaviour())
        heard = {model: Heard() for model in ("short", "endless", "silent")}
        short, endless, silent = [
            asyncio.create_task(inference.answer(model, heard=h, seconds=60)) for model, h in heard.items()
        ]

        async def under_way() -> bool:
            return bool(heard["short"].text and heard["endless"].text and fake.requests["silent"])

        await eventually(under_way, seconds=20)
        asked = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert (await short).text == "one two three"
        with pytest.raises(HearthError) as caught:
            await endless
        assert caught.value.retryable
        await running.communicate()
        assert running.returncode == 0
        assert time.monotonic() - asked < 5
        async with asyncio.timeout(5):
            for model in ("endless", "silent"):
                await fake.requests[model][0].done.wait()
                assert fake.requests[model][0].disconnected
        await stack.enter_async_context(process("inference_service", **env))
        assert (await silent).text == "one two three"


async def test_settings_that_are_wrong_are_said_on_one_line() -> None:
    for url in ("ftp://host", "", "http://host:port", "unix:"):
        async with process("inference_service", OLLAMA_URL=url) as running:
            written, _ = await running.communicate()
            assert running.returncode == 2, url
            assert written.startswith(b"OLLAMA_URL: "), written
            assert written.count(b"\n") == 1


@pytest.fixture(scope="module")
async def real() -> AsyncIterator[Inference]:
    made = Path(tempfile.mkdtemp(prefix="h"))
    async with (
        process("hearth_local.models", "--socket", str(made / "m")),
        inference_on(f"unix:{made}/m", model_first_token_seconds=60, model_between_tokens_seconds=30) as inference,
    ):

        async def answers() -> bool:
            return bool((await inference.models()).models)

        await eventually(answers, what="the model server")
        yield inference
    shutil.rmtree(made)


async def test_a_real_model_answers(real: Inference) -> None:
    models = {m.name: m for m in (await real.models()).models}
    assert list(models[SMOLLM].capabilities) == ["completion"]
    assert models[SMOLLM].context_tokens > 0
    schema = '{"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}'
    heard = await real.answer(SMOLLM, seconds=60, max_tokens=20, seed=1, temperature=0)
    assert len(heard.pieces) > 3
    assert heard.done.prompt_tokens > 0
    assert heard.done.completion_tokens <= 20
    heard = await real.answer(SMOLLM, seconds=60, output_schema=schema)
    assert heard.done.data in ('{"colour":"red"}', '{"colour":"blue"}')
    heard = Heard()
    options = pb.GenerationOptions(max_tokens=3)
    async for item in real.stub.Generate(pb.GenerateRequest(model=SMOLLM, prompt="One,", options=options), timeout=60):
        heard.add(item)
    assert heard.done.finish_reason == "length"
    with pytest.raises(ModelNotFound):
        await real.answer("absent")
    with pytest.raises(ModelLacksCapability):
        await real.embed(SMOLLM, ["a"])


async def test_what_a_real_model_cannot_do_or_hold(real: Inference) -> None:
    tools = [pb.Tool(name="t", description="", parameters='{"type":"object"}')]
    with pytest.raises(ModelLacksCapability, match="takes no tools"):
        await real.answer(SMOLLM, tools=tools)
    image = pb.ChatMessage(role="user", content="See", images=[b"\xff\xd8\xff"])
    with pytest.raises(ModelLacksCapability, match="takes no images"):
        await real.answer(SMOLLM, messages=[image])
    talk = [pb.ChatMessage(role="user", content=text) for text in ("one " * 80, "two")]
    heard = await real.answer(SMOLLM, seconds=60, messages=talk, context_tokens=64, max_tokens=2)
    assert "cut" in heard.notices
    assert f"longer than {SMOLLM}'s context of 64 tokens" in heard.messages[0]
    assert heard.done.prompt_tokens < 64
    whole = [(await real.answer(SMOLLM, seconds=60, messages=talk, max_tokens=2)).done for _ in range(2)]
    # What the server has in its cache counts as well.
    assert whole[0].prompt_tokens == whole[1].prompt_tokens > 80


async def test_a_real_model_embeds(real: Inference) -> None:
    name = next(m.name for m in (await real.models()).models if "embedding" in m.capabilities)
    cat, kitten, tax = (
        v.values for v in (await real.embed(name, ["a cat", "a kitten", "income tax"], seconds=60)).vectors
    )

    def alike(a: Any, b: Any) -> float:
        return float(sum(x * y for x, y in zip(a, b, strict=True)))

    assert len(cat) == 384
    assert alike(cat, kitten) > alike(cat, tax)


async def test_a_real_model_stops_when_cancelled(real: Inference) -> None:
    call = real.chat(SMOLLM, seconds=60, max_tokens=4000)
    async for item in call:
        if item.text:
            break
    call.cancel()

    async def is_free() -> bool:
        return bool((await real.models()).hosts[0].active_requests == 0)

    await eventually(is_free, seconds=1, what="the place of the cancelled request")
    assert (await real.answer(SMOLLM, seconds=60, max_tokens=2)).done


async def test_a_model_server_that_is_killed_in_mid_sentence_is_told_to_the_caller() -> None:
    made = Path(tempfile.mkdtemp(prefix="h"))
    async with (
        process("hearth_local.models", "--socket", str(made / "m")) as server,
        inference_on(f"unix:{made}/m", model_first_token_seconds=60, model_between_tokens_seconds=30) as inference,
    ):

        async def answers() -> bool:
            return bool((await inference.models()).models)

        await eventually(answers, what="the model server")
        heard = Heard()
        asked = asyncio.create_task(inference.answer(SMOLLM, heard=heard, seconds=60, max_tokens=4000))

        async def speaks() -> bool:
            return bool(heard.text)

        await eventually(speaks)
        server.kill()
        with pytest.raises(ModelHostUnavailable, match="broke the answer off"):
            await asked
        with pytest.raises(ModelHostUnavailable, match="does not answer"):
            await inference.answer(SMOLLM)
    shutil.rmtree(made)
