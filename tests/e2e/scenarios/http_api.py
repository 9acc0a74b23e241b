"""Every call of Prometheus' HTTP API, good and bad, asked of a real Prometheus 3 and of us: status, headers and bytes are the same.

Requests are written to the socket as they stand here, so that what no client library lets through is tried too. Times and
durations of evaluations and scrapes are blotted out before bodies are compared; what else may differ stands in `EXCUSED`
with its reason.
"""

import gzip
import json
import pathlib
import re
import socket
import subprocess
import time
import urllib.parse
import zlib

from scenarios.remote_write import PEERS
from service import Asked, Service, job

PAGE = """# HELP requests_total Requests served, "quoted" and <tagged> & \\\\ back.
# TYPE requests_total counter
requests_total{code="200",path="/<a>&b"} 1027
requests_total{code="500",path="ü"} 3
# HELP temperature How warm it is.
# TYPE temperature gauge
temperature{room="one"} 20.5
temperature{room="two"} NaN
temperature{room="three"} +Inf
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} 10
latency_seconds_bucket{le="1"} 90
latency_seconds_bucket{le="+Inf"} 100
latency_seconds_sum 33.25
latency_seconds_count 100
untyped_thing 1e-9
"""
RULES = """
groups:
- name: one
  interval: 1s
  rules:
  - {record: "doubled", expr: "requests_total*2", labels: {kind: "d"}}
  - alert: Warm
    expr: temperature{room="one"} > 20
    labels: {severity: page, team: a}
    annotations: {summary: "{{ $value }} in <{{ $labels.room }}>"}
  - {alert: Cold, expr: 'temperature < 0', for: 5m, keep_firing_for: 1m}
- name: two
  interval: 1s
  limit: 7
  rules:
  - {alert: Slow, expr: 'histogram_quantile(0.9, latency_seconds_bucket) > 0.5', for: 1h, labels: {severity: info}}
- name: three
  interval: 1s
  rules:
  - {record: "broken", expr: 'temperature * on () requests_total'}
"""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# Headers that clients act on.
TELLING = [
    "content-type", "content-encoding", "vary", "allow", "location", "retry-after", "x-content-type-options", "cache-control",
    "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
    "access-control-expose-headers", "access-control-allow-credentials", "access-control-max-age",
]
# By a pattern of `METHOD path`: why the answers may differ, and in what they still must agree.
EXCUSED = {
    "HEAD ": ("HEAD is answered wherever GET is, as RFC 9110 asks; Prometheus says 405", ()),
    r"\S+ /-/(healthy|ready)": ("the text names the program", ("status",)),
    r"\S+ /-/(reload|quit)": ("nobody stops us over HTTP; a reload says more", ("status",)),
    r"GET /version": ("another program", ("status", "headers")),
    r"\S+ \S+(/\./|/\.\./|//)": ("the same redirect without a page, and 308 where there is a body", ("location",)),
    r"GET /api/v1/(label/job/|label/job/values/|labels/|query/|rules/) ": ("Prometheus leads to /labels, where nothing is", ()),
    r"GET /api/v1 ": ("Prometheus leads to /api/v1/, where nothing is", ()),
    r"GET /api/v1/label/%": ("a broken escape: another 400", ("status",)),
    r"GET /api/v1/label/a%2Fb/": ("Prometheus cannot be asked for a label with a slash", ()),
    r"\S+ /api/v1/%71uery": ("no client escapes a plain letter", ()),
    r"\S+ .*time=(NaN|Inf)": ("Prometheus takes what Go makes of it when it converts it to an integer", ()),
    r"\S+ /api/v1/query.*timeout=0s": ("Prometheus says 400, 422 or 503 as its goroutines run", ()),
    r"POST /api/v1/query --x": ("forms in multipart are not read", ()),
    r"GET /api/v1/query\?query=1&time=4&x=y{65000}": ("URLs end at 64 KiB: what is longer is sent by POST", ()),
    r"\S+ /api/v1/read": ("there is no remote read", ()),
    r"(POST|PUT|DELETE|PATCH|OPTIONS|GET) /api/v1/(write|otlp/v1/metrics) ": ("what changes something is closed to pages of other sites; bodies are compared apart", ()),
    r"\S+ /federate": ("compared without what only one of two scrapes at the same time has", ("status", "headers")),
    r"\S+ /api/v1/query.*stats=": ("samples are counted as they are loaded, not step by step", ("status", "headers", "keys")),
    r"GET /api/v1/(targets/)?metadata\?\S*limit=[12]": ("Prometheus takes any one, as its maps are in no order", ("status", "headers")),
    "GET /metrics": ("own metrics", ("status",)),
    "GET /api/v1/status/buildinfo": ("another program", ("status", "headers", "keys")),
    "GET /api/v1/status/runtimeinfo": ("another process", ("status", "headers", "keys")),
    "GET /api/v1/status/flags": ("only flags that have a meaning here", ("status", "headers")),
    "GET /api/v1/status/config": ("our file has more blocks", ("status", "headers", "keys")),
    "GET /api/v1/status/tsdb": ("another store: sizes differ", ("status", "headers", "keys")),
    "GET /api/v1/status/walreplay": ("segments of a log of another kind", ("status", "headers", "keys")),
}


def query_string(**params) -> str:
    return urllib.parse.urlencode(params, doseq=True)


def requests(now: int) -> list[tuple[str, str, dict, bytes]]:
    """Method, target, headers, body of each call."""
    calls: list[tuple[str, str, dict, bytes]] = []

    def get(path, headers=None, **params):
        calls.append(("GET", f"{path}?{query_string(**params)}" if params else path, headers or {}, b""))

    def post(path, headers=None, body=None, **params):
        calls.append(("POST", path, FORM if headers is None else headers, query_string(**params).encode() if body is None else body))

    api = "/api/v1"
    window = {"start": now - 3, "end": now, "step": 1}
    for call in (get, post):
        for expr in [
            "requests_total", "temperature", "1+1", '"text"', "requests_total[3s]", "rate(temperature[1m])", "sum(", "", "foo bar",
            "untyped_thing", "vector(1e21)", "vector(-0.000001234)", "time()", "absent(nothing)", 'x{a="b"} + on(', "up{job=~'('}",
            "sort_by_label(up, 'job')", 'label_replace(up, "a-b", "$1", "job", "(.*)")', "requests_total / on(code) temperature",
            "requests_total * on() requests_total", "histogram_quantile(2, latency_seconds_bucket)", "rate(requests_total[1m]) offset 5m",
            "topk(2, requests_total)", "{__name__=~'.+',__name__!~'ALERTS.*|scrape_.*'}", "count_values('v', temperature)", "holt_winters(a[1m],1,1)",
            "temperature{room!='two'} @ end()", "max_over_time(temperature[2s:1s])",
        ]:
            call(f"{api}/query", query=expr, time=now)
            call(f"{api}/query_range", query=expr, **window)
            call(f"{api}/format_query", query=expr)
            call(f"{api}/parse_query", query=expr)
            call(f"{api}/query_exemplars", query=expr, start=now - 60, end=now)
        for extra in [
            {"time": "abc"}, {"time": "2026-01-01T00:00:00Z"}, {"time": "2026-01-01T00:00:00.1234567+02:00"}, {"time": "-1"}, {"time": "1e3"},
            {"time": "NaN"}, {"time": "Inf"}, {"time": "1e30"}, {"timeout": "x"}, {"timeout": "0s"}, {"timeout": "-1s"}, {"timeout": "1m"},
            {"lookback_delta": "x"}, {"lookback_delta": "1ms"}, {"lookback_delta": "-1"}, {"limit": "1"}, {"limit": "0"}, {"limit": "-1"},
            {"limit": "x"}, {"limit": "99999999999999999999"}, {"limit": "2"}, {"limit": "1.5"},
        ]:
            call(f"{api}/query", **({"query": "requests_total", "time": now} | extra))
            call(f"{api}/query_range", **({"query": "requests_total"} | window | {k: v for k, v in extra.items() if k != "time"}))
        for extra in [
            {"start": "x"}, {"end": "x"}, {"step": "x"}, {"step": "0"}, {"step": "-1"}, {"step": ""}, {"start": ""}, {"end": ""}, {"end": 5},
            {"step": "0.0001", "start": 0}, {"step": "1s"}, {"step": "1h30m"}, {"step": "NaN"}, {"step": "1e20"}, {"start": now - 11000, "query": "vector(1)"},
            {"start": now - 11001}, {"step": "500ms"}, {"step": "0.0000001"}, {"start": "-1e20", "step": "1e18"},
        ]:
            call(f"{api}/query_range", **({"query": "temperature"} | window | extra))
            call(f"{api}/query_exemplars", **({"query": "temperature", "start": now - 5, "end": now} | extra))
        selectors = [
            [], ["requests_total"], ["requests_total", "temperature"], ['{__name__=~"req.*"}'], ["{}"], ['{a=~".*"}'], ["sum(x)"], ["x["],
            [""], ['{job="page"}'], ['{job!=""}'], ["nothing"], ['{code="500"}', "requests_total"], ["1"], ["requests_total offset 5m"],
        ]
        for match in selectors:
            for path in ["series", "labels"]:
                call(f"{api}/{path}", **{"match[]": match})
        for extra in [
            {"limit": 1}, {"limit": 0}, {"limit": -1}, {"limit": "x"}, {"limit": 3}, {"limit": 100}, {"start": "x"}, {"end": "x"},
            {"start": 0, "end": 1}, {"start": now - 10, "end": now}, {"start": "-292273086-05-16T16:47:06Z"},
            {"end": "292277025-08-18T07:12:54.999999999Z"}, {"start": now + 1000},
        ]:
            call(f"{api}/series", **({"match[]": "requests_total"} | extra))
            call(f"{api}/labels", **extra)
            call(f"{api}/labels", **({"match[]": "requests_total"} | extra))
            get(f"{api}/label/code/values", **extra)
            get(f"{api}/label/code/values", **({"match[]": "requests_total"} | extra))
    for match in selectors:
        get(f"{api}/label/path/values", **{"match[]": match})
    for name in ["__name__", "job", "U__room", "U__my_2e_x", "a%2Fb", "a b", "%", "%zz", "%ff", "none", "ü", "a-b", "U__", "U___2e_", "1"]:
        calls.append(("GET", f"{api}/label/{name}/values".replace(" ", "%20"), {}, b""))
    for path in ["/label//values", "/label/job", "/label/job/", "/label/job/values/", "/label/a/b/values", "/labels/", "/query/", "/nothing", "", "/", "//query?query=1"]:
        get(api + path)
    for extra in [
        {}, {"state": "active"}, {"state": "dropped"}, {"state": "any"}, {"state": "ANY"}, {"state": "wrong"}, {"scrapePool": "page"},
        {"scrapePool": "none"}, {"scrapePool": "page", "state": "dropped"}, {"scrapePool": ""},
    ]:
        get(f"{api}/targets", **extra)
    get(f"{api}/scrape_pools")
    for extra in [
        {}, {"limit": 1}, {"limit": 0}, {"limit": -1}, {"limit": "x"}, {"metric": "temperature"}, {"metric": "none"}, {"match_target": '{job="page"}'},
        {"match_target": "{}"}, {"match_target": '{job="none"}'}, {"match_target": "x{"}, {"match_target": "sum(x)"}, {"metric": "temperature", "limit": 2},
        {"limit_per_metric": 1}, {"limit_per_metric": 0}, {"limit_per_metric": "x"}, {"metric": "requests_total", "match_target": '{job="page"}'},
    ]:
        get(f"{api}/targets/metadata", **extra)
        get(f"{api}/metadata", **extra)
    for extra in [
        {}, {"type": "alert"}, {"type": "record"}, {"type": "ALERT"}, {"type": "x"}, {"rule_name[]": "Warm"}, {"rule_name[]": ["Warm", "doubled"]},
        {"rule_group[]": "two"}, {"rule_group[]": "none"}, {"file[]": "none"}, {"exclude_alerts": "true"}, {"exclude_alerts": "1"},
        {"exclude_alerts": "yes"}, {"exclude_alerts": ""}, {"group_limit": 1}, {"group_limit": 2}, {"group_limit": 3}, {"group_limit": 0}, {"group_limit": -1},
        {"group_limit": "x"}, {"group_next_token": "x"}, {"group_next_token": "x", "group_limit": 1}, {"match[]": '{severity="page"}'},
        {"match[]": ['{severity="page"}', '{kind="d"}']}, {"match[]": "x{"}, {"match[]": "{}"}, {"match[]": '{severity=~".*"}'}, {"type": "alert", "group_limit": 1},
        {"match[]": '{severity="none"}'}, {"match[]": '{severity="{{ x }}"}'}, {"group_limit": "99999999999999999999"}, {"rule_name[]": ""},
    ]:
        get(f"{api}/rules", **extra)
    for path in [
        "alerts", "alertmanagers", "status/buildinfo", "status/runtimeinfo", "status/flags", "status/config", "status/tsdb", "status/walreplay",
        "status/tsdb?limit=1", "status/tsdb?limit=0", "status/tsdb?limit=x", "status/tsdb?limit=-1", "status/nothing", "notifications",
        "features", "read", "write", "otlp/v1/metrics", "admin/tsdb/snapshot", "admin/tsdb/delete_series", "admin/tsdb/clean_tombstones",
        "status", "query_exemplars", "format_query", "parse_query", "rules/", "alerts/x",
    ]:
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]:
            body = {} if method in ("GET", "HEAD", "OPTIONS") else {"Content-Type": "text/plain"}
            calls.append((method, f"{api}/{path}", body, b""))
    for path in [f"{api}/query?query=1", f"{api}/query_range", f"{api}/series", f"{api}/labels", f"{api}/label/job/values", f"{api}/rules", f"{api}/targets", f"{api}/metadata", f"{api}/scrape_pools", "/federate", f"{api}/targets/metadata"]:
        for method in ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]:
            calls.append((method, path, {}, b""))
        calls.append(("GET", path, {"Origin": "http://elsewhere.example"}, b""))
        calls.append(("OPTIONS", path, {"Origin": "http://e.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}, b""))
    for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"]:
        for path in ["/-/healthy", "/-/ready", "/metrics", "/-/nothing", "/-/", "/version", "/-/quit/x"]:
            calls.append((method, path, {}, b""))
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"]:
        for path in ["/-/reload", "/-/quit"]:
            calls.append((method, path, {}, b""))
    for accept in ["gzip", "deflate", "zstd", "br", "gzip, deflate", "deflate, gzip", "identity", "*", "gzip;q=0", "GZIP", "deflate;q=0.5, gzip;q=1", "zstd, gzip"]:
        for path in [f"{api}/query?query=requests_total&time={now}", f"{api}/labels", f"{api}/query?query=(", "/-/healthy", f"{api}/nothing", "/federate?match[]=requests_total"]:
            calls.append(("GET", path, {"Accept-Encoding": accept}, b""))
    for stats in ["all", "true", "x", "", "1"]:
        get(f"{api}/query", query="requests_total", time=now, stats=stats)
        get(f"{api}/query_range", query="requests_total", stats=stats, **window)
    post(f"{api}/query", headers={"Content-Type": "application/json"}, body=b'{"query":"1"}')
    post(f"{api}/query", headers={"Content-Type": "text/plain"}, body=b"query=1")
    post(f"{api}/query", headers={}, body=b"query=1")
    post(f"{api}/query", headers={"Content-Type": "multipart/form-data; boundary=x"}, body=b'--x\r\nContent-Disposition: form-data; name="query"\r\n\r\n1\r\n--x--\r\n')
    post(f"{api}/query", headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, body=b"query=vector(2)&time=1")
    post(f"{api}/query?query=vector(1)&time=1", body=b"query=vector(2)")
    post(f"{api}/query?query=vector(1)&time=1", body=b"")
    post(f"{api}/query", body=b"query=%zz")
    post(f"{api}/query", body=b"query=1;time=3")
    post(f"{api}/query", body=b"query=1&query=2&time=4")
    post(f"{api}/query", body=b"time=4&query=%ff")
    post(f"{api}/query", body=b"time=4&query=up%00")
    post(f"{api}/query", body=b"query=1&time=4&" + b"x=" + b"y" * 2_000_000)
    # What Grafana's data source and Kiali ask at their start, with Grafana's milliseconds where seconds belong.
    get(f"{api}/query_exemplars", query="test", start=(now - 60) * 1000, end=now * 1000)
    post(f"{api}/query", query="1+1", time=4)
    post(f"{api}/query_range", query="rate(requests_total[1m])", start=f"{now - 10}.0", end=f"{now - 5}", step=5, timeout="30s")
    post(f"{api}/series", **{"match[]": '{__name__="requests_total"}', "limit": 40000, "start": now - 5, "end": now})
    post(f"{api}/labels", limit=40000, start=now - 5, end=now)
    get(f"{api}/label/__name__/values", **{"limit": 40000, "match[]": '{__name__=~".*temp.*"}', "start": now - 5, "end": now})
    get(f"{api}/query", query='sum(rate(istio_requests_total{reporter="source"}[60s])) by (source_workload) > 0', time=f"{now}.123")
    for path in [
        f'{api}/query?query=count(requests_total{{code="200"}})&time={now}', f"{api}/query?query=vector(1)&time=1#x", f"{api}/query?query=a|b&time=1",
        f"{api}/query?query={{x=`1`}}&time=1", f"{api}/query?query=1^2&time=1", f"{api}/query?query=<&time=1", f"{api}/query?query=up\\&time=1",
        f"{api}/query?query=ü&time=1".encode().decode("latin-1"), f"{api}/series?match[]=requests_total", f'{api}/series?match[]={{code="500"}}',
        f"{api}/query?query=1&time=4&x=" + "y" * 60_000, f"{api}/query?query=1&time=4&x=" + "y" * 900_000, f"{api}/query?query=%E4&time=1",
        f"{api}/query?query=1%2B1&time=1", f"{api}/query?query=1+%2B+1&time=1", f"{api}/query?query=1;time=1", f"{api}/query?query=%zz&time=1",
        f"{api}/./query?query=1&time=1", f"{api}/../v1/query?query=1&time=1", f"{api}/%71uery?query=1&time=1", "/api/v2/query", "/api", "/federate?match[]=requests_total",
        "/federate", "/federate?match[]=x{", "/federate?match[]=nothing", '/federate?match[]={job="page"}', "/api/v1/query?" + "&".join(["query=1"] * 3000) + "&time=1",
    ]:
        calls.append(("GET", path, {}, b""))
    return calls


def ask(port: int, method: str, target: str, headers: dict, body: bytes) -> tuple[int, dict, bytes]:
    """The answer to a request that is sent exactly as given."""
    head = f"{method} {target} HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if body or method in ("POST", "PUT", "PATCH"):
        head += f"Content-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        try:
            stream.sendall(head.encode("latin-1") + b"\r\n" + body)
        except OSError:
            pass  # the answer may have come before all was sent
        got = b""
        try:
            while part := stream.recv(1 << 16):
                got += part
        except OSError:
            pass
    head, _, text = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = ", ".join(filter(None, [fields.get(name.lower()), value.strip()]))
    if fields.get("transfer-encoding") == "chunked":
        text = unchunked(text)
    match fields.get("content-encoding"):
        case "gzip":
            text = gzip.decompress(text)
        case "deflate":
            text = zlib.decompress(text)
    return int(first.split()[1]) if first.count(" ") else 0, fields, text


def unchunked(text: bytes) -> bytes:
    out = b""
    while text:
        size, _, text = text.partition(b"\r\n")
        count = int(size.split(b";")[0] or b"0", 16)
        out, text = out + text[:count], text[count + 2 :]
        if not count:
            break
    return out


BLOTS = [
    (re.compile(rb'("(?:lastScrape|lastEvaluation|activeAt|startsAt)":")[^"]*'), rb"\1T"),
    (re.compile(rb'("(?:lastScrapeDuration|evaluationTime|evalTotalTime|resultSortTime|queryPreparationTime|innerEvalTime|execQueueTime|execTotalTime)":)[-0-9.e+]+'), rb"\1D"),
    (re.compile(rb'(scrape_duration_seconds.*?),"[^"]*"\]'), rb"\1,V]"),
    (re.compile(rb'("groupNextToken":")[^"]*'), rb"\1N"),
    # The time of evaluation when none is asked for.
    (re.compile(rb"\[1[0-9]{9}(\.[0-9]+)?,"), b"[T,"),
    (re.compile(rb" 1[0-9]{12}\n"), b" T\n"),
    (re.compile(rb"(scrape_duration_seconds\{[^}]*\}) \S+"), rb"\1 V"),
]


def blotted(body: bytes) -> bytes:
    for pattern, text in BLOTS:
        body = pattern.sub(text, body)
    if not body.startswith(b'{"status":"success","data":'):
        return body
    # Series come in the order of a store's index unless they are sorted: the bytes of each are compared, not their order.
    for before, after in ((b"[{", b"}]"), (b'["', b'"]')):
        start, end = body.find(before), body.rfind(after)
        if 0 < start < end:
            middle = body[start + 1 : end + 1]
            first = next((name for name in (b'"metric":', b'"target":', b'"__name__":') if middle.startswith(b"{" + name)), b'"metric":')
            parts = re.split(rb",(?=\{" + first + rb")", middle)
            return body[: start + 1] + b",".join(sorted(parts)) + body[end + 1 :]
    return body


def keys(body: bytes):
    try:
        data = json.loads(body).get("data")
    except ValueError:
        return body
    return sorted(data) if isinstance(data, dict) else data


def difference(call, mine, his) -> list:
    """What differs in two answers."""
    named = f"{call[0]} {call[1]} {call[3][:4000].decode(errors='replace')}"
    demands = next((demand for pattern, (_, demand) in EXCUSED.items() if re.match(pattern, named)), ("status", "headers", "body"))
    if any(value in call[2].get("Accept-Encoding", "") for value in ("GZIP", ";q", "*", "deflate, gzip")):
        # Prometheus looks for the plain words between commas alone, and takes the first.
        for side in (mine, his):
            side[1].pop("content-encoding", None)
    if "*" in mine[1].get("allow", ""):
        mine[1].pop("allow")
    if "allow" in mine[1]:
        mine[1]["allow"] = mine[1]["allow"].replace("HEAD, ", "") if "HEAD" not in his[1].get("allow", "") else mine[1]["allow"]
    found = []
    if "location" in demands and mine[1].get("location") != his[1].get("location"):
        found.append(("location", mine[1].get("location"), his[1].get("location")))
    if "status" in demands and mine[0] != his[0]:
        found.append(("status", mine[0], his[0]))
    if "headers" in demands:
        heads = [{name: side[1][name] for name in TELLING if name in side[1]} for side in (mine, his)]
        for head in heads:
            # That an answer depends on Accept-Encoding is said by us always, by him only of packed ones: caches want it always.
            kept = {part.strip().lower() for part in head.get("vary", "").split(",")} - {"accept-encoding", ""}
            head["vary"] = ", ".join(sorted(kept))
        if "x-content-type-options" not in heads[1]:
            heads[0].pop("x-content-type-options", None)  # we say it of every answer
        if heads[0] != heads[1]:
            found.append(("headers", {n: heads[0].get(n) for n in TELLING if heads[0].get(n) != heads[1].get(n)}, {n: heads[1].get(n) for n in TELLING if heads[0].get(n) != heads[1].get(n)}))
    if "body" in demands and blotted(mine[2]) != blotted(his[2]):
        found.append(("body", blotted(mine[2])[:700], blotted(his[2])[:700]))
    if "keys" in demands and keys(mine[2]) != keys(his[2]):
        found.append(("keys", keys(mine[2]), keys(his[2])))
    return found


class Peer(Asked):
    """Prometheus on the same page and rules."""

    def __init__(self, scene, binary: pathlib.Path, config: dict):
        self.port = scene.port()
        self.url = f"http://127.0.0.1:{self.port}"
        file = scene.folder / "prometheus.yml"
        file.write_text(json.dumps(config))
        command = [binary, f"--config.file={file}", f"--storage.tsdb.path={scene.folder / 'tsdb'}", "--web.enable-lifecycle"]
        command += ["--web.enable-remote-write-receiver"]
        scene.start("prometheus", [*command, f"--web.listen-address=127.0.0.1:{self.port}"])


def play(scene):
    binary = next((one for one in PEERS if one.exists()), None)
    if binary is None:
        scene.note("no prometheus found: shared/tools/peers.sh brings it")
        return
    page = scene.serve(lambda *_: (200, "text/plain; version=0.0.4; charset=utf-8", PAGE.encode()))
    rules = scene.folder / "rules.yaml"
    rules.write_text(RULES)
    drop = {"source_labels": ["__address__"], "regex": "dropped:.*", "action": "drop"}
    times = {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"}
    shared = {
        "global": times | {"external_labels": {"cluster": "c"}},
        "rule_files": [str(rules)],
        "scrape_configs": [job("page", f"127.0.0.1:{page}", "dropped:1", relabel_configs=[drop]), job("idle")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:9"]}]}]},
    }
    peer = Peer(scene, binary, shared)
    service = Service(scene, **shared).start()
    for side in (service, peer):
        scene.eventually("the rules have been evaluated", lambda: side.query("doubled"), lambda got: len(got) == 2, 40)
    time.sleep(8)
    now = int(time.time()) - 1
    port = int(service.web.rsplit(":", 1)[1])
    calls, wrong = requests(now), []
    for call in calls:
        mine, his = ask(port, *call), ask(peer.port, *call)
        if found := difference(call, mine, his):
            wrong.append((f"{call[0]} {call[1][:300]} {call[2]} {call[3][:200]!r}", found))
    (scene.folder / "differences.txt").write_text(
        "\n".join("\n   ".join([named, *(f"{what}\n      ours   {ours}\n      theirs {theirs}" for what, ours, theirs in found)]) for named, found in wrong)
    )
    scene.holds(f"{len(calls) - len(wrong)} of {len(calls)} calls are answered the same", not wrong, wrong[:3])
    after_a_refused_reload(scene, service, peer, rules)
    service.ends_well()


def after_a_refused_reload(scene, service, peer, rules):
    """Both keep what is in force, and say so in the same places."""
    ports = [int(side.url.rsplit(":", 1)[1]) for side in (service, peer)]
    kept = rules.read_text()
    for text, refused in ((kept + "- nonsense", True), (kept, False)):
        rules.write_text(text)
        answers = [ask(port, "POST", "/-/reload", {}, b"") for port in ports]
        scene.equal(f"a reload that is {'refused' if refused else 'taken'}: status", *(answer[0] for answer in answers))
        told = [json.loads(ask(port, "GET", "/api/v1/status/runtimeinfo", {}, b"")[2])["data"] for port in ports]
        scene.equal("runtimeinfo says so", *(one["reloadConfigSuccess"] for one in told))
        notices = [json.loads(ask(port, "GET", "/api/v1/notifications", {}, b"")[2])["data"] for port in ports]
        scene.equal("and notifications", *([(one["text"], one["active"]) for one in side] for side in notices))
    got = [ask(port, "GET", "/-/ready", {}, b"")[0] for port in ports]
    scene.equal("both are ready still", *got)
