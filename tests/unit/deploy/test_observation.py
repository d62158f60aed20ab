"""Rules and panels name metrics and labels that there are, each alert says what to do, and each process is asked."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import agent_service
import hearth_runtime
import inference_service
import log_service
import promql_parser
import pytest
import storage_service
import yaml
from prometheus_client import REGISTRY
from promql_parser import AggModifierType, AggregateExpr, Expr, VectorSelector

import gateway

ROOT = Path(__file__).parents[3]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
DASHBOARDS = [json.loads(path.read_text()) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")]
PANELS = [panel for board in DASHBOARDS for panel in board["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
# What Prometheus adds to each sample, and prometheus.yml.
OF_TARGETS = frozenset({"job", "instance", "service"})


def all_metrics() -> dict[str, frozenset[str]]:
    """The labels of each sample that any process may have, by its name, and of `up`, which Prometheus makes."""
    for package in (agent_service, gateway, hearth_runtime, inference_service, log_service, storage_service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)
    found = {"up": frozenset[str]()}
    for collector in REGISTRY._collector_to_names:
        labels = frozenset(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            for suffix in suffixes:
                found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


METRICS = all_metrics()


def parsed(text: str) -> Expr:
    """The expression; ValueError where it is none."""
    return promql_parser.parse(text.replace("$__rate_interval", "5m"))


def parts(expression: Expr) -> list[Any]:
    """The expression and all that it is made of."""
    found: list[Any] = []
    promql_parser.walk(expression, lambda part: found.append(part))
    return found


def labels_of(expression: Expr, metrics: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The labels that its samples may have. Fails where it names a metric or a label that is not there."""
    labels: set[str] = set()
    for part in parts(expression):
        if isinstance(part, VectorSelector):
            assert part.name is not None
            assert part.name in metrics, f"there is no metric {part.name}"
            own = metrics[part.name] | OF_TARGETS
            for matcher in part.matchers.matchers:
                assert matcher.name in own, f"{part.name} has no label {matcher.name}"
            labels |= own
    for part in parts(expression):
        if isinstance(part, AggregateExpr):
            kept = set(part.modifier.labels) if part.modifier is not None else set()
            assert kept <= labels, f"{kept - labels} are labels of nothing in {expression.prettify()}"
    # The outermost aggregation decides what is left; several beside each other keep what any of them keeps.
    outer = list(outermost(expression))
    if not outer:
        return frozenset(labels)
    return frozenset(label for part in outer for label in (part.modifier.labels if part.modifier is not None else ()))


def outermost(expression: Expr) -> Iterator[AggregateExpr]:
    """The aggregations by labels that stand in no other."""
    if isinstance(expression, AggregateExpr) and str(expression.op) not in ("topk", "bottomk"):
        assert expression.modifier is None or expression.modifier.type == AggModifierType.By
        yield expression
        return
    for name in ("expr", "lhs", "rhs"):
        if (inner := getattr(expression, name, None)) is not None:
            yield from outermost(inner)
    for inner in getattr(expression, "args", ()):
        yield from outermost(inner)


def recorded() -> dict[str, frozenset[str]]:
    """All metrics, those that the rules record among them."""
    metrics = dict(METRICS)
    for rule in RULES:
        if "record" in rule:
            metrics[rule["record"]] = labels_of(parsed(rule["expr"]), metrics) - {"le"}
    return metrics


RECORDED = recorded()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_ask_for_what_there_is(rule: dict[str, Any]) -> None:
    labels = labels_of(parsed(rule["expr"]), RECORDED)
    named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule)))
    assert named <= labels


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["expr"][:60])
def test_panels_ask_for_what_there_is(target: dict[str, Any]) -> None:
    labels = labels_of(parsed(target["expr"]), RECORDED)
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


@pytest.mark.parametrize(
    "wrong", ["sum(hearth_no_such_total)", "up{colour='red'}", "sum by (colour) (up)", "sum(rate(up[5m])", "up +"]
)
def test_what_is_not_there_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        labels_of(parsed(wrong), RECORDED)


def test_every_alert_has_a_runbook_entry() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    section = page.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    entries = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    assert entries == [alert["alert"] for alert in ALERTS]
    for alert in ALERTS:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"]


def test_panels_answer_each_question_and_say_what_they_show() -> None:
    rows = [panel["title"] for board in DASHBOARDS for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Is it keeping up?", "Is it healthy?", "Is it fast?", "Who uses it?"]
    assert len({panel["id"] for board in DASHBOARDS for panel in board["panels"]}) == len(PANELS) + len(rows)
    assert all(panel["description"] and panel["targets"] for panel in PANELS)
    cells = [
        (x, y)
        for panel in PANELS
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels cover each other"


def test_grafana_is_given_what_the_panels_use() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    sources = yaml.safe_load((provisioning / "datasources/hearth.yml").read_text())["datasources"]
    assert {target["datasource"]["uid"] for target in TARGETS} <= {source["uid"] for source in sources}
    for source in sources:
        assert source["url"].removeprefix("http://").partition(":")[0] in COMPOSE["services"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/hearth.yml").read_text())["providers"]
    mounts = {v.split(":")[1]: v.split(":")[0] for v in COMPOSE["services"]["grafana"]["volumes"]}
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"


def test_prometheus_finds_every_pod_in_kubernetes_by_the_same_names() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/kubernetes.yml").read_text())["scrape_configs"]
    _, kept, named, address, _ = job["relabel_configs"]
    services = {}
    for pod in ("gateway", "agent-service", "agent-worker", "inference-service", "log-service", "storage-service"):
        assert re.fullmatch(kept["regex"], pod)
        match = re.fullmatch(named["regex"], pod)
        assert match is not None
        services[pod] = "".join(group or "" for group in match.groups())
    assert named["replacement"] == "$1$2$3"
    assert services == {
        job["job_name"]: job["relabel_configs"][0]["replacement"] for job in PROMETHEUS["scrape_configs"]
    }
    assert not any(re.fullmatch(kept["regex"], pod) for pod in ("postgres", "redis", "migrations"))
    (address_variable,) = re.findall(
        r"HEARTH_METRICS_ADDRESS=(\S+)", (ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text()
    )
    assert address["replacement"] == address_variable.replace("0.0.0.0", "$1")


def test_tools_in_containers_reach_nothing_private_that_nobody_named() -> None:
    for service in ("agent-service", "agent-worker"):
        assert COMPOSE["services"][service]["environment"]["HEARTH_PRIVATE_HOSTS"] == "${HEARTH_PRIVATE_HOSTS:-[]}"


def test_prometheus_asks_every_process_where_it_serves_its_metrics() -> None:
    assert PROMETHEUS["rule_files"] == ["rules.yml"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in COMPOSE["services"]["prometheus"]["volumes"]
    asked = {}
    for job in PROMETHEUS["scrape_configs"]:
        ((found,), (relabelled,)) = (job["dns_sd_configs"], job["relabel_configs"])
        (host,) = found["names"]
        environment = COMPOSE["services"][host]["environment"]
        assert environment["HEARTH_METRICS_ADDRESS"] == f"0.0.0.0:{found['port']}"
        asked[host] = relabelled["replacement"]
    own = {
        name for name, service in COMPOSE["services"].items() if "HEARTH_LOG_FORMAT" in service.get("environment", {})
    }
    assert asked.keys() == own - {"migrations"}
    down = next(rule for rule in ALERTS if rule["alert"] == "HearthProcessDown")
    assert set(re.findall(r'=~"([^"]+)"', down["expr"])[0].split("|")) == set(asked.values())
