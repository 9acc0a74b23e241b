"""The bodies of webhooks are those of Alertmanager, field by field, for the same alerts and routes."""

import json
import os
import pathlib
import shutil
import time

from harness import Webhook, fetch
from service import Service, job

# One alert by service; `page` to a receiver whose name must be quoted, the rest to the root's. The limit of two cuts.
RULES = {
    "groups": [
        {
            "name": "e2e",
            "interval": "1s",
            "rules": [
                {
                    "alert": "QueueLong",
                    "expr": "queue_length > 0",
                    "labels": {"severity": "page", "team": 'ü "quoted"'},
                    "annotations": {
                        "summary": "queue of {{ $labels.service }} is {{ $value }}",
                        "runbook": "<https://e.example/?a=1&b=2>",
                    },
                },
                {"alert": "Quiet", "expr": "queue_length == 3", "labels": {"severity": "info"}},
            ],
        }
    ]
}
ALERTMANAGERS = [shutil.which("prometheus-alertmanager"), os.environ.get("ALERTMANAGER_BINARY")]


def routes(url):
    return {
        "route": {
            "receiver": "rest",
            "group_by": ["alertname", "job"],
            "group_wait": "2s",
            "group_interval": "3s",
            "repeat_interval": "1h",
            "routes": [{"receiver": "team.x (page)", "matchers": ['severity="page"', 'service!="none"']}],
        },
        "receivers": [
            {"name": "rest", "webhook_configs": [{"url": f"{url}/rest", "send_resolved": True}]},
            {
                "name": "team.x (page)",
                "webhook_configs": [{"url": f"{url}/page", "send_resolved": True, "max_alerts": 2}],
            },
        ],
    }


def play(scene):
    # The first of the alphabet comes last: bodies are in order of labels, not of time.
    queues = {"zoo": 7}
    page = lambda *_: (
        200,
        "text/plain; version=0.0.4",
        "".join(f'queue_length{{service="{s}"}} {v}\n' for s, v in queues.items()).encode(),
    )
    target = f"127.0.0.1:{scene.serve(page)}"
    rules = scene.folder / "rules.yaml"
    rules.write_text(json.dumps(RULES))
    ours = Webhook(scene)
    service = Service(
        scene, scrape_configs=[job("queues", target)], rule_files=[str(rules)], **routes(ours.url)
    ).start()
    scene.eventually(
        "the first alert", lambda: len(service.api("/api/v1/alerts")["alerts"]), lambda count: count == 1, 15, 0.05
    )
    queues |= {"cart": 3, "auth": 1}
    scene.eventually(
        "our first notifications",
        lambda: sorted(body["path"] for body in ours.bodies),
        lambda paths: paths == ["/hook/page", "/hook/rest"],
        25,
    )
    alerts = service.api("/api/v1/alerts")["alerts"]
    firing = [alert for alert in alerts if alert["state"] == "firing"]
    scene.equal("four alerts fire", 4, len(firing))
    for value in queues:
        queues[value] = 0
    scene.eventually("our resolved notifications", lambda: len(ours.bodies), lambda count: count == 4, 15)
    service.ends_well()
    peers = [pathlib.Path(peer) for peer in ALERTMANAGERS if peer and pathlib.Path(peer).exists()]
    scene.holds("there is an Alertmanager to compare with", bool(peers), ALERTMANAGERS)
    for number, peer in enumerate(peers):
        compare(scene, f"alertmanager{number}", peer, firing, ours.bodies, service.url)


def compare(scene, name, peer, firing, ours, external_url):
    version = scene.run(peer, "--version")[1].split()[2]
    theirs = Webhook(scene)
    config = scene.folder / f"{name}.yml"
    config.write_text(json.dumps(routes(theirs.url)))
    port = scene.port()
    url = f"http://127.0.0.1:{port}"
    process = scene.start(
        name,
        [
            peer,
            f"--config.file={config}",
            f"--storage.path={scene.folder / name}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            f"--web.external-url={external_url}",
            "--log.level=warn",
            "--web.route-prefix=/",
        ],
    )
    scene.eventually(f"{version}: ready", lambda: fetch(f"{url}/-/ready"), lambda _: True, 15)
    # Told of alerts older than its wait, Alertmanager sends the first before it has read the second.
    began = {"startsAt": instant(time.time())}
    post(url, firing, began)
    scene.eventually(f"{version}: its first notifications", lambda: len(theirs.bodies), lambda count: count == 2, 15)
    post(url, firing, began | {"endsAt": instant(time.time())})
    scene.eventually(f"{version}: its resolved notifications", lambda: len(theirs.bodies), lambda count: count == 4, 15)
    process.terminate()
    for path in ["/hook/page", "/hook/rest"]:
        for state in ["firing", "resolved"]:
            find = lambda bodies: next((body for body in bodies if (body["path"], body["status"]) == (path, state)), {})
            their_body, our_body = find(theirs.bodies), find(ours)
            has_reason = "notification_reason" in their_body
            theirs_then, ours_then = normal(their_body, has_reason), normal(our_body, has_reason)
            differs = {
                name: (theirs_then.get(name), ours_then.get(name))
                for name in theirs_then.keys() | ours_then
                if theirs_then.get(name) != ours_then.get(name)
            }
            count = len(theirs_then)
            scene.holds(
                f"{version}: {state} body of {path}: all {count} fields",
                theirs_then and not differs,
                f"(theirs, ours) {differs}",
            )


def post(url, alerts, more):
    sent = [{"labels": a["labels"], "annotations": a["annotations"], "startsAt": a["activeAt"]} | more for a in alerts]
    fetch(f"{url}/api/v2/alerts", json.dumps(sent).encode(), {"Content-Type": "application/json"})


def instant(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def normal(body, has_reason):
    """The body without what differs by nature: when it happened, and where the rule's page is."""
    kept = {name: value for name, value in body.items() if name not in ("at", "path")}
    if not has_reason:
        kept.pop("notification_reason", None)
    alerts = []
    for alert in kept.pop("alerts", []):
        ended = "never" if alert["endsAt"] == "0001-01-01T00:00:00Z" else "then"
        alerts.append(alert | {"startsAt": "then", "endsAt": ended, "generatorURL": "there"})
    return kept | {"alerts": alerts}
