"""WebSockets: /ws/tasks/{task_id} and /ws/logs. OpenAPI has no place for them; its description tells of them."""

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket
from hearth_runtime.errors import FieldViolation, HearthError
from pydantic import TypeAdapter, ValidationError

from gateway.dependencies import Gateway, GatewayDep
from gateway.errors import InvalidRequest, invalid_request
from gateway.schemas.fields import EventId, Id
from gateway.schemas.logs import Filters, SubscribeFrame
from gateway.sockets import BAD_MESSAGE, HEARTBEAT, NORMAL, SERVICE_RESTART, Socket
from gateway.streams import EventStream
from gateway.subscriptions import Subscription
from gateway.translation import end_json, event_filter, filters_of
from gateway.validation import violations

router = APIRouter(prefix="/api/v1/ws")

STOPPING = "The gateway stops. Connect again and resume."

_ID: TypeAdapter[str] = TypeAdapter(Id)
_EVENT_ID: TypeAdapter[str] = TypeAdapter(EventId)


@router.websocket("/tasks/{task_id}")
async def task_events(websocket: WebSocket, gateway: GatewayDep, task_id: str) -> None:
    """Every event of one task, token deltas included, then `end`. What the client says is passed over."""
    async with Socket(websocket, gateway.settings) as socket:
        try:
            task_id = _checked("task_id", _ID, task_id)
            after = websocket.query_params.get("after")
            stream = await gateway.streams.open(
                "task_socket",
                events=event_filter(task_ids=[task_id]),
                after=_checked("after", _EVENT_ID, after) if after else None,
                until_end=True,
            )
            try:
                await _send_task(socket, gateway, stream, task_id)
            finally:
                gateway.streams.close(stream)
        except HearthError as error:
            await socket.fail(error)


async def _send_task(socket: Socket, gateway: Gateway, stream: EventStream, task_id: str) -> None:
    while not stream.is_stopped:
        events = await stream.next(socket.received, timeout=gateway.settings.stream_heartbeat_seconds)
        for event in events:
            await socket.send(event.text)
            if stream.is_stopped:
                break
        if stream.end is not None:
            await socket.send(end_json(task_id, stream.end))
            await socket.close(NORMAL)
            return
        if socket.received.done():
            socket.take()
        elif not events and not stream.is_stopped:
            await socket.send(HEARTBEAT)
    if stream.error is not None:
        raise stream.error
    await socket.close(SERVICE_RESTART, STOPPING)


@router.websocket("/logs")
async def log_events(websocket: WebSocket, gateway: GatewayDep) -> None:
    """The events that match what the client subscribes to, which it may change at any time."""
    subscription = Subscription(gateway.services.logs)
    async with Socket(websocket, gateway.settings) as socket:
        try:
            await subscription.begin(await _first_message(socket, gateway))
            while True:
                stream = await gateway.streams.open(
                    "log_socket", events=subscription.filter, after=subscription.place, until_end=False
                )
                try:
                    # Where a change before the first event goes on.
                    subscription.place = stream.place
                    await socket.send(_subscribed(subscription))
                    changed = await _send_subscribed(socket, gateway, stream, subscription)
                finally:
                    gateway.streams.close(stream)
                if changed is None:
                    await socket.close(SERVICE_RESTART, STOPPING)
                    return
                await subscription.change(changed)
        except HearthError as error:
            await socket.fail(error, BAD_MESSAGE if isinstance(error, InvalidRequest) else None)
        finally:
            await subscription.save()


async def _first_message(socket: Socket, gateway: Gateway) -> SubscribeFrame:
    seconds = gateway.settings.subscribe_timeout_seconds
    await asyncio.wait((socket.received,), timeout=seconds)
    if not socket.received.done():
        raise InvalidRequest(f'Say within {seconds:g} s what to subscribe to, such as {{"subscribe": {{}}}}.')
    wanted = _subscribe_frame(socket.take())
    if wanted.subscribe is None and wanted.name is None:
        raise invalid_request([FieldViolation(field="subscribe", message="is missing, and so is `name`")])
    return wanted


async def _send_subscribed(
    socket: Socket, gateway: Gateway, stream: EventStream, subscription: Subscription
) -> Filters | None:
    """Sends events until the client wants to see others, which it returns, or the gateway stops."""
    while not stream.is_stopped:
        timeout = subscription.seconds_to_save(gateway.settings.stream_heartbeat_seconds)
        events = await stream.next(socket.received, timeout=timeout)
        for event in events:
            await socket.send(event.text)
            subscription.place = event.id
            await subscription.save_if_due()
            if stream.is_stopped or socket.received.done():
                # Whatever comes next begins at the place.
                break
        if (
            not (events or stream.is_stopped or socket.received.done())
            and timeout == gateway.settings.stream_heartbeat_seconds
        ):
            await socket.send(HEARTBEAT)
        await subscription.save_if_due()
        if socket.received.done():
            return _changed(_subscribe_frame(socket.take()))
    if stream.error is not None:
        raise stream.error
    return None


def _changed(wanted: SubscribeFrame) -> Filters:
    for field in ("name", "after"):
        if field in wanted.model_fields_set:
            message = "is taken with the first message alone: connect again to change it"
            raise invalid_request([FieldViolation(field=field, message=message)])
    if wanted.subscribe is None:
        raise invalid_request([FieldViolation(field="subscribe", message="is missing")])
    return wanted.subscribe


def _subscribe_frame(text: bytes) -> SubscribeFrame:
    try:
        return SubscribeFrame.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f'The message is not JSON: {error}. Send such as {{"subscribe": {{}}}}.') from None
    except ValidationError as error:
        raise invalid_request(violations([{**e, "loc": ("message", *e["loc"])} for e in error.errors()])) from None


def _subscribed(subscription: Subscription) -> str:
    answer: dict[str, Any] = {"subscribed": filters_of(subscription.filter)}
    if subscription.name is not None:
        answer["name"] = subscription.name
    answer["after"] = subscription.place
    return orjson.dumps(answer).decode()


def _checked(field: str, adapter: TypeAdapter[str], value: str) -> str:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{field} {message}.", fields=[FieldViolation(field=field, message=message)]) from None
