"""The manifests are what Kubernetes and KEDA take, name only what there is, and let nobody do more than needed."""

import importlib.util
import re
from typing import Any

import jsonschema_rs
import pytest
import yaml
from agent_service.settings import ApiSettings, ExtractionSettings, ToolSettings, WorkerSettings
from gateway.settings import GatewaySettings
from hearth_runtime.probe import TIMEOUT_SECONDS
from hearth_runtime.settings import RuntimeSettings, variable_of
from inference_service.settings import InferenceSettings
from log_service.settings import LogSettings
from storage_service.metrics import QUEUE_OLDEST_SECONDS
from storage_service.settings import StorageSettings
from unit.deploy.manifests import FOLDER, OVERLAYS, ROOT, environment, of_kind, pods, rendered, selects
from unit.deploy.schemas import check

# The oldest that the manifests are meant for, and the newest that there are schemas of.
VERSIONS = ("1.31", "1.37")
SETTINGS: dict[str, type[RuntimeSettings]] = {
    "gateway": GatewaySettings,
    "agent_service": ApiSettings,
    "agent_service.worker": WorkerSettings,
    "inference_service": InferenceSettings,
    "log_service": LogSettings,
    "storage_service": StorageSettings,
    "storage_service.migrate": StorageSettings,
}
OWN = ("gateway", "agent-service", "agent-worker", "inference-service", "log-service", "storage-service", "migrations")
# https://keda.sh/docs/latest/scalers/prometheus/
PROMETHEUS = {"serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues", "namespace", "timeout"}

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def component(template: dict[str, Any]) -> str:
    return str(template["metadata"]["labels"]["app.kubernetes.io/component"])


def own_pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Those of Hearth, without the stores of the trial."""
    return {name: template for name, template in pods(overlay).items() if component(template) in OWN}


def strict(schema: Any) -> Any:
    """The schema, which takes no fields that it does not name: the API server would drop them silently."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if "properties" in found and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def check_scaled_object(scaled: dict[str, Any]) -> None:
    """Raises jsonschema_rs.ValidationError where KEDA would not take it as it is."""
    schema = strict(yaml.safe_load((FOLDER / "schemas" / "keda-scaledobject.yaml").read_text()))
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema_rs.Draft202012Validator(schema).validate(scaled)


def test_the_api_takes_every_object(overlay: str) -> None:
    for found in rendered(overlay):
        if found["apiVersion"].startswith("keda.sh/"):
            check_scaled_object(found)
            continue
        for version in VERSIONS:
            check(found, version)


def test_a_field_that_there_is_not_is_noticed(overlay: str) -> None:
    deployment = of_kind(overlay, "Deployment")["gateway"]
    with pytest.raises(jsonschema_rs.ValidationError, match="replicass"):
        check(deployment | {"spec": deployment["spec"] | {"replicass": 2}}, "1.37")
    for scaled in of_kind(overlay, "ScaledObject").values():
        with pytest.raises(jsonschema_rs.ValidationError, match="minReplicas"):
            check_scaled_object(scaled | {"spec": scaled["spec"] | {"minReplicas": 2}})


def test_all_is_in_one_namespace_that_lets_no_pod_do_much(overlay: str) -> None:
    ((name, namespace),) = of_kind(overlay, "Namespace").items()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for found in rendered(overlay):
        assert found["kind"] == "Namespace" or found["metadata"]["namespace"] == name


def test_no_pod_may_do_more_than_it_needs(overlay: str) -> None:
    for name, template in pods(overlay).items():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert set(container["resources"]) == {"requests", "limits"}, name
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name


def test_what_reads_files_has_the_memory_for_it(overlay: str) -> None:
    """A process for each file that is read at once, beside the one that starts them."""
    for name, template in own_pods(overlay).items():
        (container,) = template["spec"]["containers"]
        if not issubclass(SETTINGS[container["args"][0]], ExtractionSettings):
            continue
        given = environment(overlay, template)
        files = "DOCUMENTS" if container["args"][0].endswith("worker") else "ATTACHMENTS"
        settings = SETTINGS[container["args"][0]].model_fields
        at_once = int(given.get(f"HEARTH_{files}_CONCURRENCY", settings[f"{files.lower()}_concurrency"].default))
        each_mib = int(given.get("HEARTH_DOCUMENT_MEMORY_MIB", settings["document_memory_mib"].default))
        assert mib(container["resources"]["limits"]["memory"]) >= at_once * each_mib + 256, name


def mib(quantity: str) -> int:
    units = {"Mi": 1, "Gi": 1024}
    return int(quantity[:-2]) * units[quantity[-2:]]


def test_no_secret_is_written_down(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for name, template in own_pods(overlay).items():
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        secrets = {v["name"] for v in template["spec"]["volumes"] if "secret" in v}
        for variable, value in environment(overlay, template).items():
            assert not variable.endswith(("_DATABASE_URL", "_REDIS_URL", "_SECRET_KEY")), (name, variable)
            if variable.endswith("_FILE") or value.startswith("/run/secrets/"):
                (mount,) = [m for m in mounts if value.startswith(m["mountPath"] + "/")]
                assert mount["name"] in secrets, (name, variable)


def fields(settings: type[RuntimeSettings]) -> dict[str, str]:
    """The names of the settings, by their variables."""
    return {variable_of(name, field): name for name, field in settings.model_fields.items()}


def test_every_variable_is_a_setting_of_its_process(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {variable for settings in SETTINGS.values() for variable in fields(settings)}
    for name, template in own_pods(overlay).items():
        (container,) = template["spec"]["containers"]
        (module, *_) = container["args"]
        assert importlib.util.find_spec(module) is not None
        own = fields(SETTINGS[module])
        for item in container["env"]:
            assert item["name"].removesuffix("_FILE") in own, (name, item["name"])
        given = environment(overlay, template)
        # What all processes are given may be for some of them.
        assert {variable.removesuffix("_FILE") for variable in given} <= known, name
        with monkeypatch.context() as pod:
            for key, value in given.items():
                if key in own and "/run/secrets/" not in value:
                    pod.setenv(key, value)
            settings = SETTINGS[module]()
        # No agent is to reach what is beside Hearth unless an operator names it.
        if isinstance(settings, ToolSettings):
            assert settings.private_hosts == []


def test_services_find_each_other_where_the_settings_say(overlay: str) -> None:
    services = of_kind(overlay, "Service")
    (shared,) = [found["data"] for found in of_kind(overlay, "ConfigMap").values()]
    own = {"HEARTH_METRICS_ADDRESS"}
    addresses = {key: value for key, value in shared.items() if key.endswith("_ADDRESS") and key not in own}
    assert len(addresses) == 4
    for address in addresses.values():
        assert address.startswith("dns:///")
        host, _, port = address.removeprefix("dns:///").partition(":")
        service = services[host]
        assert service["spec"]["clusterIP"] == "None", "one address would get all calls"
        (found,) = service["spec"]["ports"]
        assert found["port"] == int(port)
        selector = {"matchLabels": service["spec"]["selector"]}
        (template,) = [t for t in pods(overlay).values() if selects(selector, t["metadata"]["labels"])]
        (container,) = template["spec"]["containers"]
        assert {"name": found["targetPort"], "containerPort": int(port)} in container["ports"]
        assert environment(overlay, template)["HEARTH_LISTEN_ADDRESS"] == f"0.0.0.0:{port}"


def test_the_gateway_takes_the_names_by_which_it_is_asked(overlay: str) -> None:
    gateway = environment(overlay, pods(overlay)["gateway"])
    hosts = {rule["host"] for found in of_kind(overlay, "Ingress").values() for rule in found["spec"]["rules"]}
    assert hosts | {"gateway"} <= set(gateway["HEARTH_ALLOWED_HOSTS"].split(","))


def test_each_process_is_probed_where_it_listens(overlay: str) -> None:
    for name, template in own_pods(overlay).items():
        (container,) = template["spec"]["containers"]
        if component(template) == "migrations":
            continue
        (port,) = container["ports"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if component(template) == "gateway":
                assert container[probe]["tcpSocket"]["port"] == port["name"]
            elif "HEARTH_TLS_KEY" in environment(overlay, template):
                assert container[probe]["exec"]["command"] == ["python", "-m", "hearth_runtime.probe"]
                assert container[probe]["timeoutSeconds"] > TIMEOUT_SECONDS
            else:
                assert container[probe]["grpc"]["port"] == port["containerPort"], name


def test_no_deployment_takes_another_ones_pods(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    assert len(deployments) >= 6
    for name, deployment in deployments.items():
        owners = [
            other
            for other, found in deployments.items()
            if selects(found["spec"]["selector"], deployment["spec"]["template"]["metadata"]["labels"])
        ]
        assert owners == [name]


def test_a_pod_has_time_to_hand_over(overlay: str) -> None:
    for name, template in own_pods(overlay).items():
        (container,) = template["spec"]["containers"]
        grace = float(environment(overlay, template).get("HEARTH_GRACE_SECONDS", "10"))
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert template["spec"]["terminationGracePeriodSeconds"] > grace + before, name


def test_nodes_are_emptied_one_replica_at_a_time(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget").values()
    for name, deployment in of_kind(overlay, "Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        (budget,) = [found for found in budgets if selects(found["spec"]["selector"], labels)]
        assert budget["spec"]["maxUnavailable"] == 1, name


def test_what_is_scaled_is_there_and_has_no_number_of_its_own(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    scaled = [
        found["spec"]["scaleTargetRef"]["name"] for found in of_kind(overlay, "HorizontalPodAutoscaler").values()
    ] + [found["spec"]["scaleTargetRef"]["name"] for found in of_kind(overlay, "ScaledObject").values()]
    if overlay.startswith("production"):
        assert sorted(scaled) == sorted(deployments)
    for name in scaled:
        assert "replicas" not in deployments[name]["spec"]


def test_workers_follow_the_age_of_the_queues_that_they_serve(overlay: str) -> None:
    scaled = of_kind(overlay, "ScaledObject")
    served: list[str] = []
    for found in scaled.values():
        worker = pods(overlay)[found["spec"]["scaleTargetRef"]["name"]]
        queues = environment(overlay, worker)["HEARTH_QUEUES"].split(",")
        served += queues
        queries = []
        for trigger in found["spec"]["triggers"]:
            assert (trigger["type"], trigger["metricType"]) == ("prometheus", "Value")
            assert trigger["metadata"].keys() <= PROMETHEUS
            assert float(trigger["metadata"]["threshold"]) > 0
            queries.append(trigger["metadata"]["query"])
        (metric,) = QUEUE_OLDEST_SECONDS.collect()
        QUEUE_OLDEST_SECONDS.labels("runs")  # takes this label
        assert queries == [f'max({metric.name}{{queue="{queue}"}})' for queue in queues]
    api = environment(overlay, pods(overlay)["agent-service"])["HEARTH_QUEUES"].split(",")
    workers = [t for t in own_pods(overlay).values() if component(t) == "agent-worker"]
    assert sorted(api) == sorted(q for t in workers for q in environment(overlay, t)["HEARTH_QUEUES"].split(","))
    if scaled:
        assert sorted(served) == sorted(api)


def test_the_migrations_can_be_applied_alone_as_the_page_says(overlay: str) -> None:
    (selector,) = re.findall(r"kubectl apply -k \S+ -l (\S+)", (ROOT / "docs" / "kubernetes.md").read_text())
    key, _, value = selector.partition("=")
    chosen = [found for found in rendered(overlay) if found["metadata"].get("labels", {}).get(key) == value]
    assert [(found["kind"], found["metadata"]["name"]) for found in chosen] == [("Job", "migrations")]


def test_all_pods_of_an_image_run_the_same_one(overlay: str) -> None:
    images = {name: template["spec"]["containers"][0]["image"] for name, template in own_pods(overlay).items()}
    assert images["migrations"] == images["storage-service"]
    assert {image for name, image in images.items() if name.startswith("agent-")} == {images["agent-service"]}
    for name, image in images.items():
        expected = {"migrations": "storage-service"}.get(name, "agent-service" if name.startswith("agent-") else name)
        assert image.rpartition("/")[2].partition(":")[0] == f"hearth-{expected}"
