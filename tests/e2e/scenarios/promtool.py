"""promtool asks our API, and agrees with our verdicts on rules; our own metrics page passes its lint."""

import re

from service import Service, job

PAGE = b"""# HELP e2e_requests_total Requests.
# TYPE e2e_requests_total counter
e2e_requests_total{code="200"} 10
e2e_requests_total{code="500"} 3
"""


def play(scene):
    port = scene.serve(lambda *_: (200, "text/plain; version=0.0.4", PAGE))
    service = Service(scene)
    service.config["scrape_configs"] = [job("page", f"127.0.0.1:{port}"), job("meshscope", service.web)]
    service.start()
    scene.eventually("both targets are up", lambda: service.number("sum(up)"), lambda up: up == 2, 15)
    queries(scene, service.url)
    rules(scene)
    code, printed = scene.run("promtool", "check", "metrics", input=service.page("/metrics"))
    scene.equal("promtool check metrics accepts our page", (0, ""), (code, printed))
    tools(scene, service)
    code, printed = scene.run(scene.binary, "promql", "query", "--url", service.url, "-o", "json", "1+1")
    scene.holds("meshscope promql query answers", code == 0 and '"2"' in printed, printed)
    service.ends_well()


def tools(scene, service):
    """What else promtool does with a running server."""
    knows = lambda *words: scene.run("promtool", *words, "--help")[0] == 0
    for word in ("healthy", "ready"):
        if knows("check", word):
            code, printed = scene.run("promtool", "check", word, f"--url={service.url}")
            scene.holds(f"promtool check {word}", code == 0, printed)
    code, printed = scene.run("promtool", "debug", "metrics", service.url, cwd=scene.folder)
    archive = scene.folder / "debug.tar.gz"
    scene.holds("promtool debug metrics", code == 0 and archive.stat().st_size > 1000, printed)
    if not knows("push", "metrics"):
        scene.note("this promtool cannot push metrics")
        return
    file = scene.folder / "pushed.prom"
    file.write_text("# TYPE pushed gauge\npushed{a=\"b\"} 7\n")
    code, printed = scene.run("promtool", "push", "metrics", "--label=job=tool", f"{service.url}/api/v1/write", file)
    scene.holds("promtool push metrics", code == 0, printed)
    scene.eventually("what it pushed is there", lambda: service.number('pushed{job="tool"}'), lambda got: got == 7, 5)


def queries(scene, url):
    def answers(what, pattern, *command):
        code, printed = scene.run("promtool", "query", *command)
        scene.holds(f"promtool query {what}", code == 0 and re.search(pattern, printed), (code, printed))

    answers("instant", r'code="500".* => 3 @', "instant", url, "e2e_requests_total")
    answers("instant of a scalar", r"scalar: 2 @", "instant", url, "1+1")
    answers("range", r'code="200".* =>\n10 @', "range", "--step=1s", url, "e2e_requests_total")
    answers("series", r'__name__="e2e_requests_total".*code="500"', "series", "--match=e2e_requests_total", url)
    answers("labels", r"200\n500", "labels", url, "code")
    code, printed = scene.run("promtool", "query", "instant", url, "sum(")
    scene.holds("promtool shows our error for a broken query", code != 0 and "parse error" in printed, printed)


def rules(scene):
    count = re.compile(r"(\d+) rules found")
    for file in sorted((scene.root / "alerts").glob("*.yaml")):
        kind = "test" if file.stem.endswith("_test") else "check"
        theirs, ours = scene.run("promtool", kind, "rules", file), scene.run(scene.binary, "rules", kind, file)
        scene.equal(f"rules {kind} {file.name}: promtool says good", 0, theirs[0])
        scene.equal(f"rules {kind} {file.name}: the verdict is the same", theirs[0], ours[0])
        if kind == "check":
            scene.equal(f"rules check {file.name}: as many rules", count.findall(theirs[1]), count.findall(ours[1]))
    broken = scene.folder / "broken.yaml"
    broken.write_text('groups: [{name: g, rules: [{alert: A, expr: "sum("}]}]')
    good = scene.folder / "test.yaml"
    good.write_text(
        "rule_files: [rules.yaml]\ntests: [{input_series: [{series: s, values: 1 1 1}], alert_rule_test: "
        "[{eval_time: 1m, alertname: A, exp_alerts: []}]}]"
    )
    (scene.folder / "rules.yaml").write_text("groups: [{name: g, rules: [{alert: A, expr: s > 0}]}]")
    for kind, file in [("check", broken), ("test", good)]:
        theirs, ours = scene.run("promtool", kind, "rules", file), scene.run(scene.binary, "rules", kind, file)
        scene.holds(f"rules {kind} of a bad file: both refuse", theirs[0] != 0 and ours[0] != 0, (theirs, ours))
