"""The real Prometheus beside us on the same samples and rules: answers, alerts and written series are the same.

Both scrape frozen pages: those of the demo's proxies, taken every five seconds and given that time. So both hold the
same samples whenever each of them asks, rules and queries look at what is certainly there, and nothing needs a tolerance
but the last digits of floats. PROMETHEUS names the binary; without it the newest of $TMPDIR/peers (see
shared/tools/peers.sh) and the one on the PATH is taken. Only 2.x is excused: the
borders of windows, and rules, whose evaluations it shifts otherwise. DIFFERENTIAL_SECONDS is how long samples are gathered.
"""

import json
import math
import os
import pathlib
import re
import shutil
import tempfile
import threading
import time
import urllib.parse

from harness import Answer, fetch
from scenarios.demo import Demo
from service import Service

SLOT = 5
SECONDS = int(os.environ.get("DIFFERENTIAL_SECONDS", "150"))
# Samples of a slot are on the pages a moment after it, and scraped within a second.
SETTLED = 10

OWN_RULES = """
groups:
- name: recorded
  interval: 5s
  rules:
  - {record: "workload:requests:rate1m", expr: 'sum by (destination_workload, response_code) (rate(istio_requests_total{reporter="destination"}[1m] offset 10s))'}
  - {record: "workload:errors:ratio", expr: 'sum by (destination_workload) (workload:requests:rate1m{response_code=~"5.."}) / on (destination_workload) sum by (destination_workload) (workload:requests:rate1m)', labels: {kind: errors}}
  - {record: "broken", expr: 'istio_requests_total offset 10s * on (reporter) istio_requests_total offset 10s'}
- name: alerts
  interval: 5s
  rules:
  - alert: Busy
    expr: 'sum by (destination_workload) (rate(istio_requests_total{reporter="destination"}[1m] offset 10s)) > 0.5'
    for: 20s
    keep_firing_for: 30s
    labels: {severity: '{{ if gt $value 5.0 }}page{{ else }}note{{ end }}'}
    annotations: {summary: '{{ $labels.destination_workload | title }}: {{ humanize $value }} req/s, {{ printf "%.3f" $value }}{{ $labels.none }}'}
  - alert: Flapping
    expr: 'sum by (reporter) (istio_requests_total offset 10s) % 7 < 3'
    annotations: {value: '{{ $value }}', wrong: '{{ .Nothing.here }}'}
  - {alert: Never, expr: 'istio_requests_total < 0'}
  - {alert: Always, expr: 'vector(1)', for: 10s}
- {name: limited, interval: 5s, limit: 1, rules: [{record: "too:many", expr: 'istio_requests_total offset 10s'}]}
"""


def prometheus() -> str | None:
    """The binary to compare with."""
    peers = pathlib.Path(tempfile.gettempdir()) / "peers" / "root" / "usr" / "bin" / "prometheus"
    found = [os.environ.get("PROMETHEUS"), str(peers) if peers.exists() else None, shutil.which("prometheus")]
    return next((path for path in found if path), None)


class Frozen:
    """Pages that say the same to whoever asks until the next slot."""

    def __init__(self, scene, targets):
        self.targets, self.pages = targets, {}
        # Pages stay empty until both sides ask, so that neither has samples that the other lacks.
        self.begun, self.stopped = threading.Event(), threading.Event()
        self.port = scene.serve(lambda _method, path, *_: (200, "text/plain; version=0.0.4", self.pages.get(path, b"")))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

        def end():
            self.stopped.set()
            self.thread.join(10)

        scene.at_end.callback(end)

    def run(self):
        while not self.stopped.wait(SLOT - time.time() % SLOT):
            if not self.begun.is_set():
                continue
            slot = int(time.time()) // SLOT * SLOT * 1000
            self.pages = {f"/{i}": stamped(target, slot) for i, target in enumerate(self.targets)}


def stamped(target: str, at_ms: int) -> bytes:
    """The page of a target with a time after each sample."""
    try:
        page = fetch(target, headers={"Accept": "text/plain"}, timeout=2)
    except (OSError, Answer):
        return b""
    lines = (line if not line or line.startswith("#") else f"{line} {at_ms}" for line in page.splitlines())
    return ("\n".join(lines) + "\n").encode()


class Side:
    """One of the two that are compared."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, **params):
        """What stands in an answer, an error included."""
        form = urllib.parse.urlencode(params).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            return json.loads(fetch(f"{self.url}/api/v1/{path}", data=form, headers=kind))
        except Answer as answer:
            text = str(answer)
            return {"status": text.split(":")[0], "error": re.sub(r"^\d+: ", "", text)}

    def up(self):
        """How many targets have been scraped."""
        targets = json.loads(fetch(f"{self.url}/api/v1/targets"))["data"]["activeTargets"]
        return sum(one["health"] == "up" for one in targets)

    def rules(self):
        """What the rules say, without what differs from evaluation to evaluation."""
        groups = json.loads(fetch(f"{self.url}/api/v1/rules"))["data"]["groups"]
        return sorted((pathed(without_times(group)) for group in groups), key=lambda group: group["name"])


def without_times(value):
    if isinstance(value, dict):
        kept = {key: without_times(one) for key, one in value.items() if key not in ("evaluationTime", "lastEvaluation")}
        if "lastError" in kept:
            # Which group and which two of its many duplicates are named depends on the order of series in a store.
            kept["lastError"] = re.sub(r" for the match group .*\];", " […];", kept["lastError"])
        if isinstance(kept.get("alerts"), list):
            kept["alerts"] = sorted(kept["alerts"], key=lambda alert: json.dumps(alert["labels"], sort_keys=True))
            # Values and texts move with each evaluation; the series that are written are compared exactly.
            kept["alerts"] = [
                # Prometheus knows the nanoseconds of the evaluation, we its milliseconds, as samples do.
                {"labels": alert["labels"], "state": alert["state"], "activeAt": alert["activeAt"].rstrip("Z")[:23]}
                for alert in kept["alerts"]
            ]
        return kept
    return [without_times(one) for one in value] if isinstance(value, list) else value


def pathed(group):
    return group | {"file": pathlib.Path(group["file"]).name}


def play(scene):
    binary = prometheus()
    if binary is None:
        scene.holds("there is a prometheus to compare with", False, "set PROMETHEUS or install Debian's")
        return
    _, printed = scene.run(binary, "--version")
    version = tuple(int(part) for part in re.search(r"version (\d+)\.(\d+)", printed).groups())
    scene.note(f"compared with {printed.splitlines()[0]}")
    demo = Demo(scene)
    proxies = lambda: [one["scrapeUrl"] for one in demo.api("/api/v1/targets")["activeTargets"] if one["health"] == "up"]
    scene.eventually("the demo's proxies are up", lambda: len(proxies()), lambda count: count >= 12, 60)
    frozen = Frozen(scene, sorted(proxies()))
    ours, theirs = start(scene, binary, version, frozen)
    frozen.begun.set()
    began = time.time()
    time.sleep(SECONDS)
    # Rules go on; what they wrote up to here is compared.
    until = int(time.time() - SETTLED) // SLOT * SLOT
    if version >= (3, 0):
        rules(scene, ours, theirs)
        series(scene, ours, theirs, began, until)
    else:
        scene.note("Prometheus 2 evaluates groups at other times within their interval: rules are not compared")
    queries(scene, ours, theirs, version, until)
    ours_service(scene)


def start(scene, binary, version, frozen):
    rule_file = scene.folder / "differential.yaml"
    rule_file.write_text(OWN_RULES)
    jobs = [
        {"job_name": f"page-{i}", "metrics_path": f"/{i}", "static_configs": [{"targets": [f"127.0.0.1:{frozen.port}"]}]}
        for i in range(len(frozen.targets))
    ]
    common = {"scrape_configs": jobs, "rule_files": [str(rule_file)]}
    globals_ = {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "5s"}
    if version >= (2, 53):
        # The shipped alerts have no offset of their own.
        globals_["rule_query_offset"] = "10s"
        common["rule_files"].append(str(scene.root / "alerts" / "istio.yaml"))
    service = Service(scene, **common)
    service.config["global"] = globals_
    service.config["promql"] = {"experimental_functions": False}
    scene.service = service.start()
    file = scene.folder / "prometheus.yml"
    file.write_text(json.dumps({"global": globals_} | common))
    port = scene.port()
    scene.start(
        "prometheus",
        [binary, f"--config.file={file}", f"--storage.tsdb.path={scene.folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"],
    )
    theirs = Side(f"http://127.0.0.1:{port}")
    ready = lambda: fetch(theirs.url + "/-/ready", timeout=2)
    scene.eventually("prometheus is ready", ready, bool, 60)
    sides = Side(service.url), theirs
    # Prometheus begins to scrape some seconds after it is ready.
    scene.eventually("both scrape every page", lambda: [side.up() for side in sides], lambda up: set(up) == {len(jobs)}, 60)
    return sides


def rules(scene, ours, theirs):
    def both():
        mine, his = ours.rules(), theirs.rules()
        return [(a, b) for a, b in zip(mine, his) if a != b] if len(mine) == len(his) else (mine, his)

    scene.eventually("rules, their states and alerts are the same", both, lambda different: different == [], 30, 0.7)
    states = {alert["state"] for group in ours.rules() for rule in group["rules"] for alert in rule.get("alerts") or []}
    scene.holds("alerts are firing", "firing" in states, states)


def series(scene, ours, theirs, start, end):
    """What rules wrote has the same times and values on both sides."""
    names = ["ALERTS", "ALERTS_FOR_STATE", "workload:requests:rate1m", "workload:errors:ratio", "broken", "too:many"]
    for name in names:
        query = {"query": f"{{__name__={json.dumps(name)}}}[{int(end - start)}s]", "time": end}
        mine, his = ours.ask("query", **query), theirs.ask("query", **query)
        got = differences(mine, his)
        count = sum(len(one["values"]) for one in his.get("data", {}).get("result", []))
        scene.holds(f"{name}: the same {count} samples at the same times", got == [], got[:3])
        if name in names[:4]:
            scene.holds(f"{name}: there are samples", count > 10, count)


def queries(scene, ours, theirs, version, until):
    """Every expression of the Istio dashboards, at a time and over a range."""
    path = scene.root / ".." / "shared" / "fixtures" / "promql" / "dashboard-queries.json"
    if not path.exists():
        scene.note(f"fixtures absent: {path}")
        return
    rows = json.loads(path.read_text())
    expressions = sorted({row["promql"] for row in rows if row["parses"] and any("istio" in d for d in row["dashboards"])})
    # 2.x counts a sample at the left border of a window: there, times are taken between the slots.
    at = until if version >= (3, 0) else until - 2.5
    same, filled, wrong = 0, 0, []
    for expression in expressions:
        asked = [
            ("query", {"query": expression, "time": at}),
            ("query_range", {"query": expression, "start": at - 60, "end": at, "step": 5}),
            ("query_range", {"query": expression, "start": at - 61.3, "end": at, "step": 1.7}),
        ]
        for endpoint, params in asked:
            mine, his = ours.ask(endpoint, **params), theirs.ask(endpoint, **params)
            found = differences(mine, his)
            same += not found
            filled += bool(his.get("data", {}).get("result"))
            if found:
                wrong.append((endpoint, expression, found[:2]))
    scene.holds(f"{same} answers to {len(expressions)} dashboard expressions are the same", not wrong, wrong[:5])
    scene.holds(f"{filled} of them hold data", filled > 100, filled)


def differences(mine, his):
    """What differs in two answers; values may differ in their last digits."""
    heads = [{key: answer.get(key) for key in ("status", "errorType", "error", "warnings", "infos")} for answer in (mine, his)]
    if heads[0] != heads[1]:
        return [heads]
    kinds = [answer.get("data", {}).get("resultType") for answer in (mine, his)]
    if kinds[0] != kinds[1]:
        return [kinds]
    results = [answer.get("data", {}).get("result", []) for answer in (mine, his)]
    if kinds[0] not in ("vector", "matrix"):
        return [] if equal_points([results[0]], [results[1]]) else [results]
    keyed = [{json.dumps(one["metric"], sort_keys=True): one.get("values") or [one["value"]] for one in rows} for rows in results]
    found = [(key, "only one side") for key in keyed[0].keys() ^ keyed[1].keys()]
    for key in keyed[0].keys() & keyed[1].keys():
        if not equal_points(keyed[0][key], keyed[1][key]):
            found.append((key, keyed[0][key][:3], keyed[1][key][:3]))
    return found


def equal_points(mine, his):
    return len(mine) == len(his) and all(
        a[0] == b[0] and (math.isclose(float(a[1]), float(b[1]), rel_tol=1e-9) or a[1] == b[1]) for a, b in zip(mine, his)
    )


def ours_service(scene):
    scene.service.ends_well()
