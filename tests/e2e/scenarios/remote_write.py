"""A real Prometheus 3 sends to us by remote write, 1.0 and 2.0: queries give the same on both. And an import of history."""

import gzip
import json
import pathlib
import tempfile
import time

from service import Asked, Service

# Where shared/tools/peers.sh puts it, and where Debian does.
PEERS = [
    pathlib.Path(tempfile.gettempdir()) / "peers" / "root" / "usr" / "bin" / "prometheus",
    pathlib.Path("/usr/bin/prometheus"),
]
V2 = "io.prometheus.write.v2.Request"
SENDERS = {"one": "prometheus.WriteRequest", "two": V2}
# On our side `@` becomes the label that the sender adds; on its own it has none.
QUERIES = [
    "requests_total{@}",
    "latency_seconds_bucket{@}",
    "sum by (le) (latency_seconds_bucket{@})",
    "rate(requests_total{@}[5s])",
    "temperature{@}",
    'count({job="page",@})',
]


class Sender(Asked):
    """Prometheus that scrapes a page and writes it to meshscope."""

    def __init__(self, scene, name: str, binary: pathlib.Path, page: str, target: str):
        self.url = f"http://127.0.0.1:{scene.port()}"
        folder = scene.folder / f"prometheus-{name}"
        folder.mkdir()
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "900ms", "external_labels": {"sender": name}},
            "scrape_configs": [{"job_name": "page", "static_configs": [{"targets": [page]}]}],
            "remote_write": [
                {
                    "url": f"{target}/api/v1/write",
                    "protobuf_message": SENDERS[name],
                    "send_exemplars": True,
                    "queue_config": {"batch_send_deadline": "500ms"},
                }
            ],
        }
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(config))
        command = [binary, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}"]
        command += ["--enable-feature=exemplar-storage,metadata-wal-records"]
        scene.start(f"prometheus-{name}", command)


def page(scene) -> str:
    began = time.time()

    def answer(*_):
        count = int((time.time() - began) * 10)
        gone = "" if count > 100 else "leaving 1\n"
        text = (
            "# TYPE requests counter\n# HELP requests Requests served.\n"
            f'requests_total{{code="200"}} {count} # {{trace_id="t{count}"}} 1\n'
            "# TYPE latency_seconds histogram\n"
            f'latency_seconds_bucket{{le="0.1"}} {count // 2} # {{trace_id="b{count}"}} 0.05\n'
            f'latency_seconds_bucket{{le="+Inf"}} {count}\n'
            f"latency_seconds_sum {count * 0.1:.3f}\nlatency_seconds_count {count}\n"
            "# TYPE temperature gauge\n"
            f'temperature{{room="ü {chr(92)}"x"}} {20 + count % 7}\ntemperature{{room="none"}} NaN\n{gone}# EOF\n'
        )
        return 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text.encode()

    return f"127.0.0.1:{scene.serve(answer)}"


def play(scene):
    binary = next((one for one in PEERS if one.exists()), None)
    if binary is None:
        scene.note("no prometheus found: shared/tools/peers.sh brings it; only the import is tried")
    service = Service(scene, storage={"path": str(scene.folder / "database"), "out_of_order_window": "10y"}).start()
    if binary is not None:
        source = page(scene)
        senders = {name: Sender(scene, name, binary, source, service.url) for name in SENDERS}
        for name, sender in senders.items():
            compared(scene, name, sender, service, QUERIES)
    imported(scene, service)
    service.ends_well()


def compared(scene, name, sender, receiver, queries):
    """The receiver answers as the sender does, but for the label `sender` that was added on the way."""
    label = f'sender="{name}"'
    scene.eventually(f"{name}: a series arrives", lambda: receiver.query(f"requests_total{{{label}}}"), bool, 40)
    # A range that ends where both have everything: what is under way is left out.
    scene.eventually(
        f"{name}: the series that left has ended on both",
        lambda: (len(sender.query("leaving")), len(receiver.query(f"leaving{{{label}}}"))),
        lambda got: got == (0, 0),
        40,
    )
    time.sleep(3)
    end = int(time.time()) - 3
    for expr in queries:
        expected, got = ranges(sender, expr.replace("@", ""), end), ranges(receiver, expr.replace("@", label), end)
        scene.equal(f"{name}: {expr} over 8 s, {len(expected)} series", expected, got)
    both = [
        observations(asked.api("/api/v1/query_exemplars", query=f"requests_total{{{more}}}", start=end - 8, end=end))
        for asked, more in ((sender, ""), (receiver, label))
    ]
    scene.equal(f"{name}: {len(both[0])} exemplars of requests_total", *both)


def observations(found):
    return [(one["labels"], one["value"], one["timestamp"]) for series in found for one in series["exemplars"]]


def ranges(asked, expr, end):
    """Samples by labels, without the label that says who sent."""
    data = asked.api("/api/v1/query_range", query=expr, start=end - 8, end=end, step=1)
    found = {}
    for one in data["result"]:
        labels = dict(one["metric"])
        labels.pop("sender", None)
        found[json.dumps(labels, sort_keys=True)] = one["values"]
    return found


def imported(scene, service):
    day = 86400
    start = int(time.time()) // day * day - 3 * day
    lines = [f"history_total {i * 10} {start + i * 60}" for i in range(1440)]
    file = scene.folder / "history.om"
    file.write_text("# TYPE history counter\n" + "\n".join(lines) + "\n# EOF\n")
    for attempt in ("once", "twice"):
        code, text = scene.run(scene.binary, "import", "--url", service.url, "-o", "json", file)
        scene.equal(f"import {attempt}: exit code", 0, code)
        scene.equal(f"import {attempt}: stored", 1440, json.loads(text)[0]["stored"])
        got = service.number("count_over_time(history_total[1d])", time=start + day - 1)
        scene.equal(f"import {attempt}: samples that a query sees", 1440, int(got))
    scene.equal("what was imported is right", 60, int(service.number("increase(history_total[6m])", time=start + 7200)))
    packed = scene.folder / "history.om.gz"
    packed.write_bytes(gzip.compress(file.read_bytes().replace(b"history", b"packed")))
    code, text = scene.run(scene.binary, "import", "--url", service.url, packed)
    scene.holds("import of a gzip file tells its speed", code == 0 and "1440 of 1440 samples stored" in text and "samples/s" in text, text)
    piped = file.read_text().replace("history", "piped").replace(f"piped_total 7000 {start + 700 * 60}", f"piped_total NaN {start + 700 * 60}")
    code, text = scene.run(scene.binary, "import", "--url", service.url, "--nan-is-stale", "-", input=piped)
    scene.holds("import of standard input", code == 0 and "1440 of 1440" in text, text)
    scene.equal("NaN became the end of a series", [], service.query("piped_total", time=start + 700 * 60 + 30))
    scene.equal("which goes on after it", 7010, int(service.number("piped_total", time=start + 701 * 60)))
    broken = scene.folder / "broken.om"
    broken.write_text("a 1 1600000000\nb 2\n# EOF\n")
    code, text = scene.run(scene.binary, "import", "--url", service.url, broken)
    scene.holds("a broken file names its line", code != 0 and "line 2: the sample has no timestamp" in text, text)
    scene.holds("and nothing of it is stored", not service.query("a", time=1600000000), "")
