"""The Helm chart, rendered by Helm's own library and held against Kubernetes' schemas. Run by the scenario `deploy` with the
Python of .e2e/venv; prints JSON: what lint says, what is refused, and per set of values the objects and what is wrong with them."""

import json
import pathlib
import sys

import helm_python
import kubernetes_validate
import yaml

# Oldest and newest version of Kubernetes that the package of schemas and the chart's kubeVersion have in common.
VERSIONS = ["1.25", "1.37"]
# Values of a cluster with everything, and of one with as little as can be.
EVERYTHING = {
    "access": {"secretName": "meshscope-access"},
    "mesh": {"discover": ["istio", "ambient", "linkerd"]},
    "config": {"storage": {"retention": {"raw": "3d"}}, "web": {"external_url": "https://mesh.example.com"}},
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": "sha256:" + "0" * 64},
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/meshscope/ca"}],
    "rules": {
        "packs": ["ambient", "control-plane", "istio", "istio-traffic", "linkerd", "meshscope", "recording", "slo"],
        "runbookBase": "https://example.com/meshscope/",
        "extra": {"own": "groups: [{name: own, rules: [{record: 'own:up', expr: up}]}]"},
    },
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "serviceAccount": {"name": "other", "annotations": {"a": "b"}},
    "networkPolicy": {
        "webFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "otlpFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "egress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "packs": ["meshscope", "istio"], "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True, "annotations": {"folder": "mesh"}},
    "istio": {"telemetry": {"enabled": True}},
    "linkerd": {"inject": True, "allowScrapes": ["shop", "books"]},
}
LITTLE = {
    "replicas": 1,
    "rbac": {"create": False},
    "rules": {"packs": []},
    "mesh": {"discover": [], "watchDeclared": False},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
}
# Values that are refused, and what the message names.
REFUSED = [
    ({"replica": 3}, "'replica' not allowed"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"mesh": {"discover": ["consul"]}}, "/mesh/discover/0"),
    ({"rules": {"packs": ["nothing"]}}, 'no rule pack "nothing"'),
    ({"linkerd": {"allowScrapes": ["shop"]}}, "needs linkerd.inject"),
    ({"istio": {"telemetry": {"sampling": 101}}}, "/istio/telemetry/sampling"),
]



def objects(texts) -> list[dict]:
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def judged(one: dict, version: str) -> tuple[str, str]:
    """Whether it was checked, has no schema, or is wrong; and its name with what is wrong."""
    name = f"{one['kind']} {one['metadata']['name']}"
    try:
        kubernetes_validate.validate(one, version, strict=True)
        return "checked", name
    except kubernetes_validate.SchemaNotFoundError:
        return "without", one["kind"]
    except kubernetes_validate.ValidationError as error:
        return "wrong", f"{name}: {error}"


def refusal(chart, values: dict) -> str:
    try:
        chart.validate_schema(values)
        chart.render(values=values, name="meshscope", namespace="observability")
        return "accepted"
    except helm_python.HelmError as error:
        return str(error)


def main(root: pathlib.Path) -> None:
    chart = helm_python.Chart.load(str(root / "deploy/helm/meshscope"))

    def render(values, name="meshscope"):
        made = chart.render(values=values, name=name, namespace="observability")
        return objects(text for path, text in made.items() if not path.endswith("NOTES.txt"))

    plain = [path.read_text() for path in sorted((root / "deploy/kubernetes").glob("*.yaml"))]
    sets = {
        "defaults": render({}),
        "everything": render(EVERYTHING, "mesh"),
        "little": render(LITTLE),
        "plain": objects(plain),
    }
    verdicts = {
        name: {version: [judged(one, version) for one in made] for version in VERSIONS} for name, made in sets.items()
    }
    lint = helm_python.lint(str(root / "deploy/helm/meshscope"))["errors"]
    refused = [(json.dumps(values), named, refusal(chart, values)) for values, named in REFUSED]
    json.dump({"lint": lint, "refused": refused, "sets": sets, "verdicts": verdicts}, sys.stdout)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
