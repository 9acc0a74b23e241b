"""The generated boards are what Grafana's published schema allows; and that schema does refuse a wrong board."""

import json
import shutil


def play(scene):
    if not shutil.which("node") or not shutil.which("npm"):
        scene.holds("node and npm are installed", False, "install nodejs and npm (.ci/setup e2e)")
        return
    folder, boards = scene.folder / "grafana", scene.folder / "boards"
    shutil.copytree(scene.root / "tests" / "e2e" / "grafana", folder, ignore=shutil.ignore_patterns("node_modules"))
    scene.equal("npm ci", 0, scene.run("npm", "ci", "--ignore-scripts", "--prefix", folder, within=300)[0])
    code, printed = scene.run("npm", "run", "schema", cwd=folder, within=300)
    if not scene.holds("a JSON schema is made of Grafana's types", code == 0, printed):
        return
    code, printed = scene.run(scene.binary, "dashboards", "export", "--format", "json", "--out", boards)
    files = sorted(boards.glob("*.json"))
    scene.holds("boards are written", code == 0 and len(files) >= 15, printed)
    check = lambda *paths: scene.run("node", folder / "check.mjs", folder / "schema.json", *paths, within=120)
    code, printed = check(*files)
    scene.equal("all boards are as the schema says", (0, f"{len(files)} boards, 0 problems"), (code, printed.strip()))
    refused(scene, check, json.loads((boards / "istio-mesh.json").read_text()))


def refused(scene, check, board):
    """Each of these is told, so the check above means something."""
    def graph(board): board["panels"][0]["type"] = "graph"
    def mode(board): board["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["mode"] = "absolut"
    def place(board): board["panels"][0]["gridPos"] = {"x": "0"}
    def variable(board): board["templating"]["list"][0]["type"] = "source"
    def option(board): board["panels"][0]["options"]["graphMode"] = "lines"
    def version(board): board["schemaVersion"] = "41"
    def unit(board): board["panels"][0]["fieldConfig"]["defaults"]["unit"] = 7
    def query(board): board["panels"][0]["targets"][0]["expr"] = ["up"]
    def nameless(board): del board["panels"][0]["targets"][0]["refId"]
    def field(board): board["panels"][0]["targets"][0]["expression"] = "up"
    def panel_field(board): board["panels"][0]["nullPointMode"] = "connected"

    spoils = (graph, mode, place, variable, option, version, unit, query, nameless, field, panel_field)
    for spoil in spoils:
        wrong = json.loads(json.dumps(board))
        spoil(wrong)
        file = scene.folder / "wrong.json"
        file.write_text(json.dumps(wrong))
        code, printed = check(file)
        scene.holds(f"a wrong {spoil.__name__} is told", code == 1 and "wrong.json" in printed, printed)
