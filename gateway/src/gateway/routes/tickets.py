"""Tickets: what lets a browser open a stream, to which it can send no header."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from gateway import examples
from gateway.caller import current_caller
from gateway.dependencies import GatewayDep
from gateway.documentation import LOGIN_NOT_NEEDED, UNKNOWN_PARAMETER, answers
from gateway.errors import LoginNotNeeded
from gateway.route import Route
from gateway.schemas.tickets import Ticket

router = APIRouter(prefix="/api/v1/tickets", tags=["system"], route_class=Route)


@router.post(
    "",
    operation_id="create_ticket",
    summary="Make a ticket",
    status_code=201,
    responses=answers(201, examples.TICKET, LOGIN_NOT_NEEDED, UNKNOWN_PARAMETER),
)
async def create_ticket(gateway: GatewayDep) -> Ticket:
    """Makes a ticket for one stream: a browser's EventSource and WebSocket send no `Authorization`, and a key in an
    address would be in logs and histories. It stands for the key that it is made with, for half a minute, once:
    `/api/v1/logs/stream/{task_id}?ticket=…`, `/api/v1/ws/logs?ticket=…`. For each new connection make another one.
    """
    caller = current_caller()
    if caller is None:
        raise LoginNotNeeded("No login is needed here: open the stream without a ticket.")
    expires_at = datetime.now(UTC) + timedelta(seconds=gateway.settings.ticket_seconds)
    return Ticket(ticket=await gateway.callers.new_ticket(caller), expires_at=expires_at)
