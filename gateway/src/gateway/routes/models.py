"""Models: what agents can run on."""

from fastapi import APIRouter
from hearth.inference.v1 import inference_service_pb2

from gateway import examples
from gateway.dependencies import ServicesDep
from gateway.documentation import UNKNOWN_PARAMETER, answers
from gateway.route import Route
from gateway.schemas.models import Models
from gateway.translation import host_of, model_of

router = APIRouter(prefix="/api/v1/models", tags=["models"], route_class=Route)


@router.get(
    "",
    operation_id="list_models",
    summary="List models",
    responses=answers(200, examples.MODELS, UNKNOWN_PARAMETER),
)
async def list_models(services: ServicesDep) -> Models:
    """The models that the model hosts have now, with what each can do, and the hosts themselves."""
    answer = await services.inference.ListModels(inference_service_pb2.ListModelsRequest())
    return Models(items=[model_of(m) for m in answer.models], hosts=[host_of(h) for h in answer.hosts])
