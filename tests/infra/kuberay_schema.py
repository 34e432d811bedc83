"""RayJobs against KubeRay's own schema, with unknown fields refused.

A cluster's API server drops fields that it doesn't know without a word; here they are mistakes. The folder of
KubeRay's resource definitions (`ray.io_rayjobs.yaml`, in its repository below `ray-operator/config/crd/bases`) is named
by the environment variable KUBERAY_CRDS.
"""

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

VARIABLE = "KUBERAY_CRDS"
INTEGER_BITS = {"int32": 31, "int64": 63}


def validator() -> Draft202012Validator:
    """Return the validator for `ray.io/v1` RayJobs; skips the test, with a reason, where the definition is absent."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"RAYJOBS NOT CHECKED AGAINST KUBERAY'S SCHEMA: {VARIABLE} names no folder with its definitions")
    path = Path(folder) / "ray.io_rayjobs.yaml"
    assert path.exists(), f"{VARIABLE}={folder} has no {path.name}"
    return _load(path)


@functools.cache
def _load(path: Path) -> Draft202012Validator:
    definition = yaml.load(path.read_text(), yaml.CSafeLoader)
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    schema = strict_schema(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # the API server checks it, the definition says nothing
    return Draft202012Validator(schema)


def strict_schema(node: Any, *, closed: bool = True) -> Any:
    """Return a Kubernetes structural schema as JSON Schema that refuses fields which it doesn't name.

    Args:
        node: a schema, or anything inside one.
        closed: whether objects are closed; what stands below anyOf and its like only adds to the object around it.
    """
    if not isinstance(node, dict):
        return node
    schema = {
        key: node[key] for key in ("type", "enum", "pattern", "required", "minimum", "maximum", "minItems", "maxItems",
                                   "minLength", "maxLength") if key in node
    }  # fmt: skip
    if node.get("x-kubernetes-int-or-string"):
        text = {"type": "string"} | ({"pattern": schema.pop("pattern")} if "pattern" in schema else {})
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, text]
        return schema
    if node.get("type") == "integer" and node.get("format") in INTEGER_BITS:
        bits = INTEGER_BITS[node["format"]]
        schema.setdefault("minimum", -(2**bits))
        schema.setdefault("maximum", 2**bits - 1)
    if "properties" in node:
        schema["properties"] = {name: strict_schema(inner, closed=closed) for name, inner in node["properties"].items()}
        if closed and not node.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if key in node:
            schema[key] = strict_schema(node[key], closed=closed)
    for key in ("allOf", "anyOf", "oneOf"):
        if key in node:
            schema[key] = [strict_schema(inner, closed=False) for inner in node[key]]
    if node.get("nullable") and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def mistakes(job: dict) -> list[str]:
    """Return what KubeRay's schema finds wrong with a RayJob."""
    errors = validator().iter_errors(job)
    return [f"{'.'.join(map(str, error.absolute_path)) or 'the RayJob'}: {error.message[:300]}" for error in errors]
