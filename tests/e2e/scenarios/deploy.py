"""The Helm chart, rendered by Helm itself: plain manifests are fresh, every object fits Kubernetes' schemas, the rules and
the configuration in it are taken by promtool and by us."""

import json

# Kinds that Kubernetes has no schema of.
CUSTOM = {
    "AuthorizationPolicy", "HTTPRoute", "NetworkAuthentication", "PrometheusRule", "Server", "ServiceMonitor", "Telemetry",
}


def play(scene):
    root = scene.root
    python = root / ".e2e" / "venv" / "bin" / "python"
    code, said = scene.run(python, root / "deploy" / "render", "--check")
    scene.equal("the plain manifests are what the chart renders", 0, code if code == 0 else said)
    told = scene.folder / "chart.json"
    with open(told, "wb") as output:
        scene.start("chart", [python, root / "tests/e2e/chart.py", root], stdout=output).wait(120)
    told = json.loads(told.read_text())
    scene.equal("helm lint finds no error", [], told["lint"])
    for values, named, said in told["refused"]:
        scene.holds(f"{values} is refused by name", named in said, said)
    sets = told["sets"]
    for name, versions in told["verdicts"].items():
        for version, verdicts in versions.items():
            of = lambda kind: [text for verdict, text in verdicts if verdict == kind]
            count = len(of("checked"))
            scene.equal(f"{name}: {count} objects fit the schemas of Kubernetes {version}", [], of("wrong"))
            without = set(of("without"))
            scene.holds(f"{name}: without a schema are custom objects only", without <= CUSTOM, without)
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in sets["everything"]]
    scene.equal("no object is made twice", len(names), len(set(names)))

    # What is inside texts.
    folder = scene.folder
    for name, made in sets.items():
        whole = folder / f"{name}.yaml"
        # JSON is YAML.
        whole.write_text("\n---\n".join(map(json.dumps, made)))
        if name != "plain":
            # The audit knows custom objects that the schemas do not, and hangs them together.
            code, said = scene.run(scene.binary, "mesh", "audit", whole, "--fail-on", "warning")
            scene.equal(f"{name}: our audit finds no error and no warning", 0, code if code == 0 else said)
        rules = folder / f"{name}-rules"
        rules.mkdir()
        for one in made:
            data = one.get("data") or {}
            if one["kind"] == "ConfigMap" and "meshscope.yaml" in data and not one["metadata"]["name"].endswith("-rules"):
                text = data["meshscope.yaml"].replace("/etc/meshscope/rules", str(rules)).replace("/etc/meshscope", str(folder))
                (folder / f"{name}-meshscope.yaml").write_text(text)
            elif one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-rules"):
                for file, text in data.items():
                    (rules / file).write_text(text)
            elif one["kind"] == "PrometheusRule":
                (rules / f"operator-{one['metadata']['name']}.yaml").write_text(json.dumps(one["spec"]))
        files = sorted(rules.glob("*.yaml"))
        if files:
            code, said = scene.run("promtool", "check", "rules", *files)
            scene.equal(f"{name}: promtool takes its {len(files)} rule files", 0, code if code == 0 else said)
        for file in rules.glob("operator-*"):
            file.unlink()
        (folder / "access").mkdir(exist_ok=True)
        (folder / "access" / "token").write_text("a-token-of-sixteen-letters")
        code, said = scene.run(scene.binary, "check-config", folder / f"{name}-meshscope.yaml")
        scene.equal(f"{name}: we take its configuration", 0, code if code == 0 else said)

    carried = [item for one in sets["everything"] for item in (one.get("data") or {}).items()]
    boards = {file: json.loads(text) for file, text in carried if file.endswith(".json")}
    shipped = {path.name: json.loads(path.read_text()) for path in (root / "dashboards").glob("*.json")}
    scene.holds(f"the {len(shipped)} dashboards arrive as they are", boards == shipped, set(boards) ^ set(shipped))
    packs = [one["data"]["istio.yaml"] for one in sets["everything"] if "istio.yaml" in (one.get("data") or {})]
    runbooks = [line.strip() for line in packs[0].splitlines() if "runbook_url" in line]
    base = "runbook_url: https://example.com/meshscope/docs/runbooks/"
    scene.equal("runbooks have the address that was given", [], [line for line in runbooks if not line.startswith(base)])
