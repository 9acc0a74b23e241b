"""Three days of history beside the real Prometheus: ranges over every seam give the same answers.

`meshscope import` and `promtool tsdb create-blocks-from openmetrics` load the same file. Here most of it goes straight into
chunks: the oldest day is past the retention of raw samples, so only what thinning keeps of it is stored; then come raw
chunks, and memory. Answers
are the same where raw samples are. Where they are thinned, by design: at full five minutes a selector, a sum, a count and
the extremes of a gauge are the same; an increase is the same between two full five minutes as a difference of values;
every value there is one of the true ones. PROMETHEUS names the binary to compare with, PROMTOOL its tool.
"""

import json
import math
import os
import random
import shutil
import time

from harness import fetch
from scenarios.differential import Side, differences, prometheus
from service import Service

STEP, SLOT, HOUR, DAY = 60, 300, 3600, 86400
PODS, BOUNDS = 12, ["5.0", "50.0", "500.0", "+Inf"]
SEED = 20260115

# Of raw samples, whatever the step.
EXACT = [
    "requests_total",
    "sum by (zone) (rate(requests_total[5m]))",
    "increase(requests_total[17m])",
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[10m])))",
    "avg_over_time(temperature[11m])",
    "count_over_time(temperature[1h])",
    "quantile_over_time(0.9, temperature[30m])",
    "deriv(temperature[20m])",
    "changes(temperature[10m]) + resets(requests_total[1h])",
    "absent(requests_total{pod=\"pod-3\"})",
    "sum(requests_total offset 7h) / count(requests_total)",
    "max_over_time(rate(requests_total[5m])[1h:7m])",
    "last_over_time(temperature[3m] @ end())",
]
# Of thinned ones, at full five minutes.
THINNED = [
    "requests_total",
    "sum by (zone) (requests_total)",
    "count(requests_total)",
    "count(temperature)",
    "max_over_time(temperature[5m])",
    "min_over_time(temperature[10m])",
    "sum by (le) (latency_bucket)",
    "requests_total - requests_total offset 1h",
    "max_over_time(temperature[5m]) - min_over_time(temperature[5m])",
]


def page(start, end):
    """The samples of every series, as OpenMetrics: counters that are reset now and then, gauges, histograms, pauses."""
    chosen = random.Random(SEED)
    lines = {"requests": [], "temperature": [], "latency": []}
    for pod in range(PODS):
        labels = f'pod="pod-{pod}",zone="z{pod % 3}"'
        count, buckets, heat = 0, [0] * len(BOUNDS), 20.0
        rate = chosen.randrange(1, 90)
        pause_from = start + chosen.randrange(end - start)
        for at in range(start, end, STEP):
            if chosen.random() < 0.0005:
                count, buckets = 0, [0] * len(BOUNDS)
            grown = chosen.randrange(rate + 1)
            count += grown
            for i in range(len(BOUNDS)):
                buckets[i] += grown * (i + 1) // len(BOUNDS)
            heat = round(heat + chosen.uniform(-1, 1), 3)
            if pause_from <= at < pause_from + 1800:
                continue
            lines["requests"].append(f"requests_total{{{labels}}} {count} {at}")
            lines["temperature"].append(f"temperature{{{labels}}} {heat} {at}")
            for bound, bucket in zip(BOUNDS, buckets):
                lines["latency"].append(f'latency_bucket{{{labels},le="{bound}"}} {bucket} {at}')
    # Lines of one series must follow each other.
    lines["latency"].sort(key=lambda line: line.split("}")[0])
    kinds = {"requests": "counter", "temperature": "gauge", "latency": "histogram"}
    text = "".join(f"# TYPE {name} {kinds[name]}\n" + "\n".join(found) + "\n" for name, found in lines.items())
    return text + "# EOF\n", sum(map(len, lines.values()))


def play(scene):
    binary = prometheus()
    if binary is None:
        scene.holds("there is a prometheus to compare with", False, "set PROMETHEUS or install Debian's")
        return
    now = int(time.time()) // SLOT * SLOT
    start = now - 3 * DAY
    file = scene.folder / "history.om"
    text, count = page(start, now)
    file.write_text(text)
    service = Service(scene)
    service.config["storage"] |= {"out_of_order_window": "4d", "retention": {"raw": "1d"}}
    service.start()
    code, printed = scene.run(scene.binary, "import", file, "--url", service.url, within=300)
    scene.holds(f"meshscope takes the {count} samples of three days", code == 0, printed)
    theirs = peer(scene, binary, file)
    raw_from = (now - DAY) // DAY * DAY
    compare(scene, service, theirs, (start, raw_from, now))

    # What lay in memory is cut and thinned or replayed: the answers stay as they are.
    service.kill()
    service.start()
    compare(scene, service, theirs, (start, raw_from, now), "after kill -9: ")
    service.ends_well()


def peer(scene, binary, history):
    file, blocks = scene.folder / "prometheus.yml", scene.folder / "tsdb"
    file.write_text("{}")
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool") or "promtool"
    code, printed = scene.run(promtool, "tsdb", "create-blocks-from", "openmetrics", history, blocks, within=300)
    scene.holds("promtool makes blocks of them", code == 0, printed)
    port = scene.port()
    arguments = [f"--config.file={file}", f"--storage.tsdb.path={blocks}", "--storage.tsdb.retention.time=30d"]
    scene.start("prometheus", [binary, *arguments, f"--web.listen-address=127.0.0.1:{port}"])
    side = Side(f"http://127.0.0.1:{port}")
    scene.eventually("prometheus is ready", lambda: fetch(side.url + "/-/ready", timeout=2), bool, 60)
    return side


def compare(scene, service, theirs, times, when=""):
    (start, raw_from, now), ours = times, Side(service.url)
    # A range may reach back by what the queries look at: 8 hours.
    raw = [(raw_from + 8 * HOUR, now, 617), (now - 5 * HOUR, now, 37), (now - 2 * HOUR, now, 60)]
    checked(scene, f"{when}raw chunks and memory", ours, theirs, EXACT, raw)
    thinned = [(start + SLOT, raw_from, SLOT), (raw_from - 6 * HOUR, raw_from + 6 * HOUR, SLOT), (start + SLOT, now, 1800)]
    checked(scene, f"{when}thinned samples and the seams of all tiers", ours, theirs, THINNED, thinned)
    true_values(scene, when, ours, theirs, (start, raw_from))


def checked(scene, what, ours, theirs, expressions, ranges):
    wrong, points = [], 0
    for expression in expressions:
        for start, end, step in ranges:
            asked = {"query": expression, "start": start, "end": end, "step": step}
            mine, his = ours.ask("query_range", **asked), theirs.ask("query_range", **asked)
            # Thinned ranges say so.
            warnings = [warning for warning in mine.pop("warnings", []) if "thinned" not in warning]
            mine |= {"warnings": warnings} if warnings else {}
            points += sum(len(one["values"]) for one in his["data"]["result"])
            if found := differences(mine, his):
                wrong.append((asked, found[:2]))
    scene.holds(f"{what}: {points} points of {len(expressions)} expressions are the same", not wrong and points > 1000, wrong[:4])


def true_values(scene, when, ours, theirs, times):
    """Every thinned sample is one that Prometheus has, and of each five minutes of a counter the last is there."""
    start, end = times
    query = {"query": f"requests_total[{end - start - SLOT}s]", "time": end}
    mine, his = (
        {one["metric"]["pod"]: {at: float(value) for at, value in one["values"]} for one in side.ask("query", **query)["data"]["result"]}
        for side in (ours, theirs)
    )
    invented = [(pod, at) for pod, samples in mine.items() for at, value in samples.items() if his[pod].get(at) != value]
    scene.holds(f"{when}no thinned sample is invented", not invented and set(mine) == set(his), invented[:5])
    last = {(pod, math.ceil(at / SLOT)): at for pod, samples in sorted(his.items()) for at in sorted(samples)}
    missing = [(pod, at) for (pod, _), at in last.items() if at not in mine[pod]]
    scene.holds(f"{when}of each five minutes the last sample of a counter is kept", not missing, missing[:5])
    kept, there = (sum(map(len, side.values())) for side in (mine, his))
    scene.holds(f"{when}{kept} of {there} samples are kept", kept < there / 3, (kept, there))
