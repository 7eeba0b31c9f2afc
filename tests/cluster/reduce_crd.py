"""Reduces the definitions of KubeRay's resources to the fields that the manifests of `cluster/` use.

    python -m tests.cluster.reduce_crd ray.io_rayjobs.yaml ray.io_rayclusters.yaml

Types, required fields and allowed values are kept, prose is not, and every other field is forbidden; so a field with a
wrong name or type is found without the definitions, which are megabytes. A manifest with a new field needs this again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).with_name("kuberay_v1.json")
_KEPT = ("type", "enum", "minimum", "maximum", "pattern", "format", "required")


def manifests() -> dict[str, Any]:
    """The manifests of `cluster/` by kind."""
    found = [yaml.safe_load((ROOT / "cluster" / name).read_text()) for name in ("rayjob.yaml", "raycluster.yaml")]
    return {manifest["kind"]: manifest for manifest in found}


def definition(crd: dict[str, Any]) -> dict[str, Any]:
    """The schema of version v1 in a CustomResourceDefinition."""
    (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def reduced(schema: dict[str, Any], used: Any) -> dict[str, Any]:
    """The part of a schema that speaks of the fields of `used`. Raises KeyError for one that the schema lacks."""
    kept = {name: schema[name] for name in _KEPT if name in schema}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(used, dict) and "properties" in schema:
        fields = {name: reduced(schema["properties"][name], value) for name, value in used.items()}
        return kept | {"properties": fields, "additionalProperties": False}
    if isinstance(used, dict) and isinstance(schema.get("additionalProperties"), dict):
        return kept | {"additionalProperties": reduced(schema["additionalProperties"], next(iter(used.values()), None))}
    if isinstance(used, list):
        items: dict[str, Any] = {}
        for item in used:
            items = _merged(items, reduced(schema["items"], item))
        return kept | {"items": items}
    return kept


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(first[name], second[name]) for name in first if isinstance(second.get(name), dict)}
    return first | second | both


def main() -> None:
    used = manifests()
    schemas = {}
    for path in sys.argv[1:]:
        crd = yaml.safe_load(Path(path).read_text())
        kind = crd["spec"]["names"]["kind"]
        schemas[kind] = reduced(definition(crd), used[kind])
    SCHEMA.write_text(json.dumps(schemas, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
