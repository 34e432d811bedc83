"""The alert rules fire when they should and at no other time, by promtool's own tests; the documentation names them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dpt_ray.distributed.events import CHECKPOINT_STORED, KINDS
from dpt_ray.distributed.metrics import METRICS

REPOSITORY = Path(__file__).parents[2]
ALERTS = REPOSITORY / "infra" / "observability" / "alerts.yml"
DASHBOARD = REPOSITORY / "infra" / "observability" / "dashboard.json"
DOCUMENT = REPOSITORY / "docs" / "guide" / "cluster" / "observability.md"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="ALERTS NOT CHECKED: promtool is not installed (Debian: prometheus)"
)


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def promtool(*words: str) -> str:
    result = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs_promtool
def test_prometheus_accepts_the_rules():
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS))


@needs_promtool
def test_the_rules_fire_when_they_should(tmp_path):
    tests = (Path(__file__).parent / "alerts_test.yml").read_text()
    (tmp_path / "tests.yml").write_text(tests.replace("[ALERTS]", f"[{ALERTS}]"))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yml"))


def test_every_rule_is_tested_and_documented():
    names = {rule["alert"] for rule in rules()}
    tested = yaml.safe_load((Path(__file__).parent / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == names
    text = DOCUMENT.read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_rules_name_metrics_and_events_that_exist():
    text = " ".join(rule["expr"] for rule in rules())
    assert set(re.findall(r"ray_(dpt_\w+)", text)) <= {metric.name for metric in METRICS}
    assert set(re.findall(r'event="(\w+)"', text)) <= {kind.name for kind in KINDS}


def panels() -> list[dict]:
    return json.loads(DASHBOARD.read_text())["panels"]


def test_the_dashboard_names_metrics_and_events_that_exist():
    text = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    assert set(re.findall(r"ray_(dpt_\w+)", text)) == {metric.name for metric in METRICS}
    named = {name for names in re.findall(r'event=~?"([\w|]+)"', text) for name in names.split("|")}
    assert named == {kind.name for kind in KINDS} - {CHECKPOINT_STORED.name}  # whose time is a metric of its own


def test_panels_of_the_dashboard_do_not_overlap():
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@needs_promtool
def test_prometheus_accepts_the_queries_of_the_dashboard(tmp_path):
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    given = {"$__rate_interval": "5m", "$run": ".*", "$step": ".*"}
    for name, value in given.items():
        queries = [query.replace(name, value) for query in queries]
    records = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_every_event_is_documented():
    text = DOCUMENT.read_text()
    assert [kind.name for kind in KINDS if f"`{kind.name}`" not in text] == []
