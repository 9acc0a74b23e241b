"""Beside the real Alertmanager: same requests, same answers; same alerts, same deliveries; amtool; crashes.

The peer must be of version 0.30 or newer: ALERTMANAGER_BINARY names it, with amtool beside it.
"""

import json
import os
import pathlib
import random
import re
import shutil
import time
import urllib.error
import urllib.request

from harness import Webhook, fetch
from service import Service

PEERS = [os.environ.get("ALERTMANAGER_BINARY"), shutil.which("prometheus-alertmanager")]
JSON = {"Content-Type": "application/json"}


def routes(url):
    """A tree with everything that decides who is told: continue, both kinds of matchers, `...`, times, inhibition."""
    hook = lambda name, **more: {
        "name": name,
        "webhook_configs": [{"url": f"{url}/{name}", "send_resolved": True} | more],
    }
    return {
        "global": {"resolve_timeout": "1h"},
        "route": {
            "receiver": "root",
            "group_by": ["alertname"],
            "group_wait": "1s",
            "group_interval": "3s",
            "repeat_interval": "1h",
            "routes": [
                {"receiver": "db", "matchers": ['service=~"pg|redis"'], "continue": True},
                {"receiver": "each", "matchers": ['"team.name"="ö"'], "group_by": ["..."]},
                {
                    "receiver": "page",
                    "match": {"severity": "page"},
                    "routes": [
                        {"receiver": "night", "match_re": {"team": "n.*"}, "mute_time_intervals": ["never"]},
                        {"receiver": "quiet", "matchers": ["team=quiet"], "mute_time_intervals": ["never", "always"]},
                        {"receiver": "away", "matchers": ["team=away"], "active_time_intervals": ["never"]},
                    ],
                },
                {"receiver": "firing", "matchers": ["{kind=quick}"]},
            ],
        },
        "receivers": [hook(n) for n in ["root", "db", "each", "page", "night", "quiet", "away"]]
        + [hook("firing", send_resolved=False, max_alerts=1)],
        "inhibit_rules": [
            {"source_matchers": ['severity="page"'], "target_matchers": ['severity="warn"'], "equal": ["cluster"]}
        ],
        "time_intervals": [
            {"name": "always", "time_intervals": [{"weekdays": ["sunday:saturday"], "location": "Europe/Berlin"}]},
            {"name": "never", "time_intervals": [{"years": ["1999"], "days_of_month": ["-1"], "months": ["may:june"]}]},
        ],
    }


def labels(**more):
    return {"labels": {name.replace("__", "."): value for name, value in more.items()}}


ALERTS = [
    labels(alertname="Pg", service="pg", severity="page"),
    labels(alertname="Redis", service="redis", severity="info"),
    labels(alertname="Each", team__name="ö", i="1"),
    labels(alertname="Each", team__name="ö", i="2"),
    labels(alertname="Night", severity="page", team="nord"),
    labels(alertname="Quiet", severity="page", team="quiet"),
    labels(alertname="Away", severity="page", team="away"),
    labels(alertname="Many", job="b", instance="2"),
    labels(alertname="Many", job="b", instance="1"),
    labels(alertname="Many", job="a"),
    labels(alertname="Many", a_label="x"),
    labels(alertname="Quick", kind="quick", i="1"),
    labels(alertname="Quick", kind="quick", i="2"),
    labels(alertname="Source", severity="page", cluster="c"),
    labels(alertname="Target", severity="warn", cluster="c"),
    labels(alertname="Other", severity="warn", cluster="d"),
    labels(alertname="Silenced", i="1") | {"annotations": {"summary": "<hidden>"}, "generatorURL": "http://p/g?a=1"},
]
S = {
    "matchers": [{"name": "alertname", "value": "Silenced", "isRegex": False}],
    "startsAt": "2020-01-01T00:00:00Z",
    "endsAt": "2099-01-01T00:00:00Z",
    "createdBy": "me",
    "comment": "c",
}


def ask(method, url, body=None, headers=None):
    """Status, type and text of an answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = headers if headers is not None else (JSON if data is not None else {})
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers.get("Content-Type"), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Content-Type"), error.read().decode()


def requests():
    """What is sent to both: method, path, body, headers."""
    alerts, silences = "/api/v2/alerts", "/api/v2/silences"
    bad = [
        b"",
        b"[{",
        b"{}",
        [{}],
        [{"labels": {}}],
        [{"labels": {"a": ""}}],
        [{"labels": {"": "x"}}],
        [{"labels": {"a": 1}}],
    ]
    bad += [
        [labels(a="b") | more] for more in [{"startsAt": "rubbish"}, {"generatorURL": "foo"}, {"generatorURL": "a %%"}]
    ]
    bad += [[labels(a="b") | {"startsAt": "2026-01-01T02:00:00Z", "endsAt": "2026-01-01T01:00:00Z"}, {"labels": {}}]]
    bad += [[labels(a="b") | {"annotations": {"": "x"}}]]
    yield from (("POST", alerts, body, None) for body in bad)
    yield "POST", alerts, [labels(a="b")], {"Content-Type": "text/plain"}
    flags = ["active=false", "silenced=false", "inhibited=false", "unprocessed=false", "active=rubbish", "active=1"]
    filters = [
        "filter=alertname%3DPg",
        "filter=alertname",
        "filter=a%3D~%22(%22",
        "filter=%7Ba%3Db%7D",
        "filter=service!%3D",
    ]
    filters += [
        "filter=service%3D",
        "receiver=db",
        "receiver=d",
        "receiver=(",
        "receiver=d.*%7Cnight",
        "filter=%22team.name%22%3D%C3%B6",
    ]
    for query in ["", *flags, *filters]:
        yield "GET", f"{alerts}?{query}", None, None
    for query in [
        "",
        "muted=false",
        *flags[:3],
        "receiver=db",
        "receiver=(",
        "filter=x",
        "receiver=page&filter=severity%3Dpage",
    ]:
        yield "GET", f"{alerts}/groups?{query}", None, None
    matcher = lambda **more: S | {"matchers": [{"name": "a", "value": "b", "isRegex": False} | more]}
    without = lambda name: {key: value for key, value in S.items() if key != name}
    wrong = [b"", b"{", {}, *(without(name) for name in ["matchers", "createdBy", "comment", "startsAt", "endsAt"])]
    wrong += [S | {"matchers": []}, S | {"matchers": [{}]}, S | {"matchers": [{"name": "a", "value": "b"}]}]
    wrong += [matcher(name=""), matcher(value=""), matcher(value="(", isRegex=True), matcher(value=".*", isRegex=True)]
    wrong += [S | {"endsAt": "2019-01-01T00:00:00Z"}, S | {"endsAt": "2021-01-01T00:00:00Z"}, S | {"startsAt": "bad"}]
    wrong += [S | {"id": "nope"}, S | {"id": "11111111-1111-1111-1111-111111111111"}]
    yield from (("POST", silences, body, None) for body in wrong)
    for path in ["/api/v2/silence/nope", "/api/v2/silence/11111111-1111-1111-1111-111111111111"]:
        yield "GET", path, None, None
        yield "DELETE", path, None, None
    for path in ["filter=alertname%3DSilenced", "filter=x", "filter=alertname%3D~Silenced", ""]:
        yield "GET", f"{silences}?{path}", None, None
    yield "PUT", silences, S, None
    yield "DELETE", alerts, None, None
    yield from (
        ("GET", path, None, None) for path in ["/api/v2/receivers", "/api/v2/nothing", "/api/v1/alerts", "/-/ready"]
    )


def normal(text):
    """An answer without what differs by nature: times, ids, the order of labels that have none."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
    text = text.replace("[POST,GET]", "[GET,POST]").replace("[GET,DELETE]", "[DELETE,GET]")  # they come in any order
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)


def told(webhook, since=0):
    """What was delivered, without times: receiver, group key, status, alerts in their order."""
    found = []
    for body in webhook.bodies[since:]:
        alerts = tuple((alert["fingerprint"], alert["status"]) for alert in body["alerts"])
        found.append(
            (body["path"], body["groupKey"], body["status"], body["receiver"], alerts, body["truncatedAlerts"])
        )
    return sorted(found)


def play(scene):
    ours = Webhook(scene)
    service = Service(scene, **routes(ours.url)).start()
    url = f"{service.url}/alertmanager"
    scene.eventually("Alertmanager's API is ready", lambda: fetch(f"{url}/-/ready"), lambda text: text == "OK", 30)
    peers = [pathlib.Path(peer) for peer in PEERS if peer and pathlib.Path(peer).exists()]
    if peer := next((peer for peer in peers if is_new(scene, peer)), None):
        compare(scene, peer, (url, ours))
    else:
        scene.note(f"no Alertmanager of 0.30 or newer to compare with: {PEERS}")
        ask("POST", f"{url}/api/v2/alerts", ALERTS)
    older_amtool(scene, url)
    silences_survive(scene, service, url)
    outbox(scene, service, url)
    service.ends_well()


def is_new(scene, peer):
    version = scene.run(peer, "--version")[1].split()[2]
    return tuple(int(part) for part in version.split(".")[:2]) >= (0, 30)


def compare(scene, peer, ours):
    theirs = Webhook(scene)
    config, port = scene.folder / "alertmanager.yml", scene.port()
    config.write_text(json.dumps(routes(theirs.url)))
    real = f"http://127.0.0.1:{port}"
    options = ["--cluster.listen-address=", "--log.level=error", f"--storage.path={scene.folder / 'peer'}"]
    scene.start("peer", [peer, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", *options])
    scene.eventually("the peer is ready", lambda: fetch(f"{real}/-/ready"), lambda text: text == "OK", 30)
    compare_deliveries(scene, ours, (real, theirs))
    compare_flapping(scene, [ours, (real, theirs)])
    compare_answers(scene, ours[0], real)
    amtool(scene, peer.with_name("amtool"), ours[0], real, config)
    refused(scene, peer.with_name("amtool"))


def compare_deliveries(scene, ours, theirs):
    sides = [ours, theirs]
    for base, _ in sides:
        status, _, text = ask("POST", f"{base}/api/v2/silences", S)
        scene.equal(f"{base}: a silence is created", 200, status)
        status, _, text = ask("POST", f"{base}/api/v2/alerts", ALERTS)
        scene.equal(f"{base}: alerts are taken", (200, ""), (status, text))
    steady(scene, sides)
    same(scene, "the same first deliveries", told(theirs[1]), told(ours[1]))
    scene.holds("which are those of every receiver that is told", len(told(ours[1])) >= 10, told(ours[1]))
    marks = [len(webhook.bodies) for _, webhook in sides]
    ended = {"endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    some = [
        alert | ended | {"startsAt": "2026-01-01T00:00:00Z"}
        for alert in ALERTS[:1] + ALERTS[2:3] + ALERTS[7:8] + ALERTS[11:12] + ALERTS[13:14]
    ]
    for base, _ in sides:
        ask("POST", f"{base}/api/v2/alerts", [*some, labels(alertname="Many", job="new")])
    steady(scene, sides, marks)
    pair = [told(webhook, mark) for (_, webhook), mark in zip(sides, marks)]
    same(scene, "the same deliveries when some resolve and one is new", pair[1], pair[0])
    scene.holds("among them a target that is no longer inhibited", any("Target" in one[1] for one in pair[0]), pair[0])


def compare_flapping(scene, sides, phases=6):
    """Alerts and silences that come and go by a seed: in each phase both sides tell the same, within their intervals."""
    seed = int(os.environ.get("MESHSCOPE_SEED") or time.time())
    scene.note(f"MESHSCOPE_SEED={seed}")
    dice = random.Random(seed)
    instant = lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    began, silences = {}, []
    for base, _ in sides:  # a common start: all of them fire
        ask("POST", f"{base}/api/v2/alerts", [alert | {"startsAt": instant()} for alert in ALERTS])
    began = dict.fromkeys(range(len(ALERTS)), instant())
    quiet(scene, sides)
    for phase in range(phases):
        marks = [len(webhook.bodies) for _, webhook in sides]
        changes = []
        for at, alert in enumerate(ALERTS):
            if dice.random() < 0.6:
                continue
            if at in began:
                changes.append(alert | {"startsAt": began.pop(at), "endsAt": instant()})
            else:
                began[at] = instant()
                changes.append(alert | {"startsAt": began[at]})
        matcher = dice.choice(["Many", "Quick", "Each"])
        make = not silences and dice.random() < 0.7
        for base, _ in sides:
            for old in silences[:]:
                if old[0] == base:
                    ask("DELETE", f"{base}/api/v2/silence/{old[1]}")
                    silences.remove(old)
            if make:
                one = S | {"matchers": [{"name": "alertname", "value": matcher, "isRegex": False}]}
                silences.append((base, json.loads(ask("POST", f"{base}/api/v2/silences", one)[2])["silenceID"]))
        for base, _ in sides:
            ask("POST", f"{base}/api/v2/alerts", changes)
        quiet(scene, sides)
        pair = [told(webhook, mark) for (_, webhook), mark in zip(sides, marks)]
        same(scene, f"phase {phase}, {len(changes)} alerts change{f', {matcher} is silenced' if make else ''}", pair[1], pair[0])


def quiet(scene, sides):
    """Waits until nobody was told anything for two group intervals."""
    count = lambda: [len(webhook.bodies) for _, webhook in sides]
    seen, since, began = count(), time.monotonic(), time.monotonic()
    while time.monotonic() - since < 6.5 and time.monotonic() - began < 60:
        time.sleep(0.1)
        if count() != seen:
            seen, since = count(), time.monotonic()


def same(scene, what, theirs, ours):
    missing, more = ([one for one in a if one not in b] for a, b in ((theirs, ours), (ours, theirs)))
    scene.holds(f"{what}: {len(theirs)}", theirs == ours, f"only theirs {missing}\n          only ours {more}")


def steady(scene, sides, marks=(0, 0)):
    """Waits until nobody was told anything for two group intervals."""
    count = lambda: [len(webhook.bodies) for _, webhook in sides]
    quiet(scene, sides)
    seen = count()
    scene.holds("both have told something", all(now > mark for now, mark in zip(seen, marks)), seen)


def compare_answers(scene, url, real):
    different, count = [], 0
    for method, path, body, headers in requests():
        count += 1
        ours, theirs = (ask(method, base + path, body, headers) for base in (url, real))
        ours, theirs = ((status, kind, normal(text)) for status, kind, text in (ours, theirs))
        # An answer without a body has no type there.
        if ours[0] != theirs[0] or ours[2] != theirs[2] or (theirs[1] and ours[1] != theirs[1]):
            different.append(f"{method} {path} {body}\n            ours   {ours}\n            theirs {theirs}")
    scene.holds(f"all {count} answers are those of Alertmanager", not different, "\n          ".join(different[:6]))
    for method, path in [("POST", "/api/v2/alerts"), ("POST", "/api/v2/silences"), ("DELETE", "/api/v2/silence/x")]:
        status, _, _ = ask(method, url + path, b"[]", JSON | {"Origin": "http://evil.example"})
        scene.equal(f"{method} {path} from a page of another site is refused", 403, status)


def amtool(scene, tool, url, real, config):
    def both(what, *command):
        results = []
        for base in (url, real):
            code, text = scene.run(tool, "--no-version-check", f"--alertmanager.url={base}", *command)
            results.append((code, normal(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", text)).strip()))
        scene.equal(f"amtool {what}", results[1], results[0])
        return results[0][1]

    for output in ["simple", "extended", "json"]:
        both(f"alert query -o {output}", "-o", output, "alert", "query")
    both("alert query with a matcher", "alert", "query", "alertname=Pg")
    both("alert query --silenced", "alert", "query", "--silenced")
    both("alert query --inhibited", "alert", "query", "--inhibited")
    both("alert add", "alert", "add", "Added", "severity=info", "--annotation=summary=x")
    both("alert query of it", "-o", "json", "alert", "query", "Added")
    both("silence add", "silence", "add", "alertname=Added", "--comment=why", "--author=me", "--duration=2h")
    both("silence add without a comment", "silence", "add", "alertname=Added", "--author=me")
    both("silence query", "silence", "query", "alertname=Added")
    both("silence query -o extended", "-o", "extended", "silence", "query", "alertname=Added")
    for base in (url, real):
        code, text = scene.run(
            tool, "--no-version-check", f"--alertmanager.url={base}", "silence", "query", "-q", "alertname=Added"
        )
        one = text.split()[0]
        code, text = scene.run(
            tool,
            "--no-version-check",
            f"--alertmanager.url={base}",
            "silence",
            "update",
            "--duration=5h",
            "--comment=more",
            one,
        )
        scene.equal(f"amtool silence update at {base}", 0, code)
        scene.holds("which keeps its id", one in text or base == real, text)
        ids = scene.run(
            tool, "--no-version-check", f"--alertmanager.url={base}", "silence", "query", "-q", "alertname=Added"
        )[1].split()
        code, text = scene.run(tool, "--no-version-check", f"--alertmanager.url={base}", "silence", "expire", *ids)
        scene.equal(f"amtool silence expire at {base}", (0, ""), (code, text))
    both("silence query --expired", "silence", "query", "--expired", "alertname=Added")
    exported = scene.folder / "silences.json"
    exported.write_text(
        json.dumps(
            [
                S | {"matchers": [{"name": "alertname", "value": f"I{n}", "isRegex": False, "isEqual": True}]}
                for n in range(3)
            ]
        )
    )
    both("silence import", "silence", "import", exported)
    both("silence query of the imported", "silence", "query", "alertname=I1")
    both("cluster show", "cluster", "show")
    both("config routes show", "config", "routes", "show")
    both("config routes test", "config", "routes", "test", "severity=page", "team=nord")
    both("config routes test of both", "config", "routes", "test", "service=pg", "severity=page")
    shown = scene.folder / "shown.yml"
    code, text = scene.run(tool, "--no-version-check", f"--alertmanager.url={url}", "config", "show")
    shown.write_text(text)
    scene.holds("amtool config show", code == 0 and "receivers:" in text, text)
    code, text = scene.run(tool, "check-config", config)
    scene.holds("amtool check-config takes the configuration of both", code == 0, text)


# Configurations that are refused, each by one sentence; tests/it/app_routing.rs has them as well.
REFUSED = [
    "route: {receiver: nobody}\nreceivers: [{name: a}]",
    "route: {group_by: [x]}\nreceivers: [{name: a}]",
    "route: {receiver: a, matchers: [x=y]}\nreceivers: [{name: a}]",
    "route: {receiver: a, continue: true}\nreceivers: [{name: a}]",
    "route: {receiver: a}\nreceivers: [{name: a}, {name: a}]",
    "route: {receiver: a}\nreceivers: [{name: a}, {}]",
    "route: {receiver: a, group_by: [x, x]}\nreceivers: [{name: a}]",
    "route: {receiver: a, group_by: [..., x]}\nreceivers: [{name: a}]",
    "route: {receiver: a, group_by: ['']}\nreceivers: [{name: a}]",
    "route: {receiver: a, group_interval: 0s}\nreceivers: [{name: a}]",
    "route: {receiver: a, repeat_interval: 0s}\nreceivers: [{name: a}]",
    "route: {receiver: a, group_wait: soon}\nreceivers: [{name: a}]",
    "route: {receiver: a, routes: [{matchers: ['a=~\"(\"']}]}\nreceivers: [{name: a}]",
    "route: {receiver: a, routes: [{match_re: {a: '('}}]}\nreceivers: [{name: a}]",
    "route: {receiver: a, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: a}]",
    "route: {receiver: a, active_time_intervals: [x]}\nreceivers: [{name: a}]",
    "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{}]}]",
    "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: 'http://x/', url_file: y}]}]",
    "route: {receiver: a}\nreceivers: [{name: a, pagerduty_configs: [{}]}]",
    "route: {receiver: a}\nreceivers: [{name: a, email_configs: [{}]}]",
] + [
    "route: {receiver: a}\nreceivers: [{name: a}]\ntime_intervals: [{name: t, time_intervals: [{%s}]}]" % fields
    for fields in [
        "times: [{start_time: '17:00', end_time: '09:00'}]",
        "weekdays: ['friday:monday']",
        "months: ['december:january']",
        "days_of_month: ['20:10']",
        "days_of_month: ['-1:1']",
        "days_of_month: ['0']",
        "years: ['2021:2020']",
        "location: 'Nowhere/X'",
    ]
]


def refused(scene, tool):
    """What is wrong with a configuration is said in Alertmanager's sentence, after the place."""
    different, file = [], scene.folder / "refused.yml"
    for text in REFUSED:
        file.write_text(text + "\n")
        _, theirs = scene.run(tool, "check-config", file)
        sentence = theirs.split("FAILED: ")[1].split("\n")[0].strip() if "FAILED: " in theirs else theirs
        code, ours = scene.run(scene.binary, "check-config", file)
        if code == 0 or sentence not in ours:
            different.append(f"{text}\n            ours   {ours}\n            theirs {sentence}")
    scene.holds(f"all {len(REFUSED)} bad configurations are refused in amtool's words", not different, "\n          ".join(different[:6]))


def older_amtool(scene, url):
    """The one on the path, Debian's, is years older than the peer's."""
    tool = shutil.which("amtool")
    if not tool:
        return scene.note("no amtool on the path: its commands are not checked")
    ask_it = lambda *command: scene.run(tool, "--no-version-check", f"--alertmanager.url={url}", *command)
    scene.equal("an older amtool: alert add", (0, ""), ask_it("alert", "add", "Older", "severity=info"))
    # Not one of those that came and went by the seed before.
    code, text = ask_it("alert", "query", "alertname=Older")
    scene.holds("an older amtool: alert query", code == 0 and "Older" in text, text)
    code, one = ask_it("silence", "add", "alertname=Older", "--comment=why", "--author=me")
    scene.equal("an older amtool: silence add", 0, code)
    scene.holds("an older amtool: silence query", one.strip() in ask_it("silence", "query", "-q")[1], one)
    scene.equal("an older amtool: silence expire", (0, ""), ask_it("silence", "expire", one.strip()))
    code, text = ask_it("config", "show")
    scene.holds("an older amtool: config show", code == 0 and "receivers:" in text, text)


def silences_survive(scene, service, url):
    listed = lambda: json.loads(fetch(f"{url}/api/v2/silences"))
    before = {one["id"]: one for one in listed()}
    time.sleep(2)  # until they are written
    service.kill()
    service.start()
    scene.eventually(
        "silences survive kill -9", lambda: {one["id"]: one for one in listed()}, lambda after: after == before, 20
    )


def outbox(scene, service, url):
    """Crashes between the send and its acknowledgement, receivers of every bad kind, and the wish to try again."""
    state = {"kill": True, "bodies": [], "fail": True, "good": []}

    def deadly(_method, _path, body, _headers):
        state["bodies"].append(json.loads(body))
        if state.pop("kill", None):
            service.process.kill()
            service.process.wait()
        return 200, "text/plain", b""

    def bad(_method, path, body, _headers):
        if path == "/hang":
            time.sleep(25)
        status = {"/500": 500, "/429": 429, "/flaky": 400 if state["fail"] else 200}.get(path, 200)
        if path in ("/good", "/flaky") and status == 200:
            state["good"].append((path, time.time(), json.loads(body)))
        return status, "text/plain", b"no"

    deadly_port, bad_port = scene.serve(deadly), scene.serve(bad)
    hook = lambda name, at: {"name": name, "webhook_configs": [{"url": at}]}
    names = ["hang", "500", "429", "flaky", "good"]
    service.config |= {
        "route": {
            "receiver": "good",
            "group_by": ["alertname"],
            "group_wait": "0s",
            "group_interval": "1h",
            "routes": [{"receiver": name, "matchers": [f"to={name}"]} for name in ["deadly", "reset", *names]],
        },
        "receivers": [hook("deadly", f"http://127.0.0.1:{deadly_port}/"), hook("reset", "http://127.0.0.1:1/")]
        + [hook(name, f"http://127.0.0.1:{bad_port}/{name}") for name in names],
        "time_intervals": [],
        "inhibit_rules": [],
    }
    service.stop()
    service.start()
    ask("POST", f"{url}/api/v2/alerts", [labels(alertname="Deadly", to="deadly")])
    scene.eventually(
        "the receiver kills meshscope before it answers",
        lambda: service.process.poll(),
        lambda code: code is not None,
        15,
    )
    service.start()
    scene.eventually(
        "the delivery is made again after kill -9", lambda: state["bodies"], lambda bodies: len(bodies) >= 2, 20
    )
    groups = {body["groupKey"] for body in state["bodies"]}
    scene.equal("it is the same one", 1, len(groups))
    began = time.time()
    ask(
        "POST",
        f"{url}/api/v2/alerts",
        [labels(alertname=f"Bad{name}", to=name) for name in ["hang", "500", "429", "reset", "flaky", "good"]],
    )
    scene.eventually(
        "a good receiver hears at once beside hanging, failing and absent ones",
        lambda: [at - began for path, at, _ in state["good"]],
        lambda times: times and times[0] < 4,
        10,
    )
    listed = lambda **params: service.api("/api/mesh/v1/notifications", **params)["notifications"]
    failed = scene.eventually(
        "those that are refused are listed as failed",
        lambda: listed(state="failed"),
        lambda found: {"429", "flaky"} <= {one["receiver"] for one in found},
        15,
    )
    errors = {one["receiver"]: one.get("lastError", "") for one in failed}
    scene.holds("with the reason", "429" in errors.get("429", ""), errors)
    waiting = {one["receiver"]: one["state"] for one in listed() if one["state"] in ("sending", "waiting")}
    scene.holds("those that may yet succeed are being tried", {"hang", "500", "reset"} <= set(waiting), waiting)
    state["fail"] = False
    one = next(one for one in failed if one["receiver"] == "flaky")
    status, _, text = ask("POST", f"{service.url}/api/mesh/v1/notifications/{one['id']}/retry", b"")
    scene.equal("a retry is accepted", 200, status)
    scene.eventually(
        "it is delivered", lambda: [path for path, _, _ in state["good"]], lambda paths: "/flaky" in paths, 10
    )
    scene.eventually(
        "and listed as sent",
        lambda: [x["state"] for x in listed() if x["id"] == one["id"]],
        lambda states: states == ["sent"],
        10,
    )
