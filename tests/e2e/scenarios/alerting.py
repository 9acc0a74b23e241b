"""Real Alertmanagers are told of our alerts: firing, while one of two is away, after `kill -9`, resolved."""

import datetime
import json
import os
import pathlib
import signal
import tempfile
import time

from harness import Webhook, fetch
from service import Asked, Service, job

PEERS = [
    os.environ.get("ALERTMANAGER_BINARY"),
    pathlib.Path(tempfile.gettempdir()) / "peers" / "root" / "usr" / "bin" / "prometheus-alertmanager",
    "/usr/bin/prometheus-alertmanager",
]
RULES = {
    "groups": [
        {
            "name": "g",
            "rules": [
                {"alert": name, "expr": f"{name.lower()} > 0", "for": "2s"}
                | {"labels": {"severity": "page"}, "annotations": {"summary": "ü <{{ $value }}>"}}
                for name in ("Stays", "Ends")
            ]
            + [{"alert": "Secret", "expr": "vector(1)"}],
        }
    ]
}


class Alertmanager(Asked):
    """The real one, alone, that tells a webhook at once."""

    def __init__(self, scene, name: str, binary: pathlib.Path, prefix: str):
        self.scene, self.name, self.binary, self.prefix = scene, name, binary, prefix
        self.address = f"127.0.0.1:{scene.port()}"
        self.webhook = Webhook(scene)
        self.folder = scene.folder / name
        self.folder.mkdir()
        route = {"receiver": "hook", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "1s"}
        hook = {"name": "hook", "webhook_configs": [{"url": self.webhook.url}]}
        (self.folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": [hook]}))
        self.start()

    def start(self):
        options = ["--cluster.listen-address=", f"--storage.path={self.folder}", f"--web.listen-address={self.address}"]
        options += [f"--config.file={self.folder / 'alertmanager.yml'}", f"--web.route-prefix=/{self.prefix}"]
        self.process = self.scene.start(self.name, [self.binary, *options])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def alerts(self) -> dict[str, dict]:
        """By name, those that it believes in."""
        base = f"http://{self.address}/{self.prefix}".rstrip("/")
        return {one["labels"]["alertname"]: one for one in json.loads(fetch(f"{base}/api/v2/alerts"))}

    def told(self, name: str) -> list[str]:
        return [body["status"] for body in self.webhook.of(name)]


def play(scene):
    binary = next((pathlib.Path(one) for one in PEERS if one and pathlib.Path(one).exists()), None)
    if binary is None:
        scene.note("no prometheus-alertmanager found: shared/tools/peers.sh brings it")
        return
    scene.note(scene.run(binary, "--version")[1].splitlines()[0])
    values = {"stays": 1, "ends": 1}
    text = lambda: "".join(f"{name} {value}\n" for name, value in values.items())
    target = f"127.0.0.1:{scene.serve(lambda *_: (200, 'text/plain; version=0.0.4', text().encode()))}"
    peers = [Alertmanager(scene, "first", binary, ""), Alertmanager(scene, "second", binary, "am")]
    (scene.folder / "rules.yaml").write_text(json.dumps(RULES))
    (scene.folder / "second.json").write_text(json.dumps([{"targets": [peers[1].address, "gone:1"]}]))
    alerting = {
        "alert_relabel_configs": [{"source_labels": ["alertname"], "regex": "Secret", "action": "drop"}],
        "alertmanagers": [
            {"static_configs": [{"targets": [peers[0].address]}]},
            {
                "file_sd_configs": [{"files": ["second.json"]}],
                "path_prefix": "/am",
                "relabel_configs": [{"source_labels": ["__address__"], "regex": "gone:.*", "action": "drop"}],
            },
        ],
    }
    service = Service(
        scene, scrape_configs=[job("page", target)], rule_files=["rules.yaml"], alerting=alerting
    )
    service.config["global"]["external_labels"] = {"cluster": "east", "severity": "none"}
    service.start()
    begin(scene, service, peers)
    away(scene, service, peers, values)
    killed(scene, service, peers, values)
    service.ends_well()


def begin(scene, service, peers):
    for peer in peers:
        scene.eventually(f"{peer.name}: both alerts", lambda: sorted(peer.alerts()), lambda n: n == ["Ends", "Stays"], 40)
        alert = peer.alerts()["Stays"]
        labels = {"alertname": "Stays", "cluster": "east", "instance": "", "job": "page", "severity": "page"}
        scene.equal(f"{peer.name}: labels", labels, alert["labels"] | {"instance": ""})
        scene.equal(f"{peer.name}: annotations", {"summary": "ü <1>"}, alert["annotations"])
        scene.holds(f"{peer.name}: generatorURL", "/graph?g0.expr=stays" in alert["generatorURL"], alert["generatorURL"])
        lasts = seconds(alert["endsAt"]) - time.time()
        scene.holds(f"{peer.name}: it lasts {lasts:.0f} s more unless told again, of 240", 170 < lasts < 241, lasts)
        scene.eventually(f"{peer.name} tells", lambda: peer.told("Stays"), lambda told: told == ["firing"], 20)
    ours = {one["labels"]["alertname"]: one for one in service.api("/api/v1/alerts")["alerts"]}
    scene.holds("Secret fires here and is told nowhere", ours["Secret"]["state"] == "firing", ours)
    listed = service.api("/api/v1/alertmanagers")
    scene.equal(
        "/api/v1/alertmanagers",
        (sorted([f"http://{peers[0].address}/api/v2/alerts", f"http://{peers[1].address}/am/api/v2/alerts"]), 1),
        (sorted(one["url"] for one in listed["activeAlertmanagers"]), len(listed["droppedAlertmanagers"])),
    )


def away(scene, service, peers, values):
    """One is killed while an alert ends: the other hears at once, and it hears when it is back."""
    peers[1].kill()
    values["ends"] = 0
    scene.eventually("first tells the end", lambda: peers[0].told("Ends"), lambda told: told[-1:] == ["resolved"], 20)
    scene.eventually("what failed is counted", lambda: service.own("alertmanager_failed_alerts_total"), bool, 20)
    peers[1].start()
    scene.eventually("second is back", lambda: sorted(peers[1].alerts()), lambda names: names == ["Stays"], 90)


def killed(scene, service, peers, values):
    """`kill -9` and a start: the alert goes on as the same one, nobody hears of an end in between."""
    scene.eventually("it is written", lambda: service.own('persist_written_items_total{part="alert_states"}'), bool, 20)
    time.sleep(2)
    before = peers[0].alerts()["Stays"]["startsAt"]
    service.kill()
    service.start()
    scene.eventually(
        "it fires on since when it did",
        lambda: (peers[0].alerts()["Stays"]["startsAt"], [a["state"] for a in service.api("/api/v1/alerts")["alerts"]]),
        lambda got: got == (before, ["firing", "firing"]),
        40,
    )
    scene.equal("nobody was told anything in between", ["firing"], peers[0].told("Stays"))
    values["stays"] = 0
    for peer in peers:
        told = lambda: peer.told("Stays")
        scene.eventually(f"{peer.name} tells the end", told, lambda told: told[-1:] == ["resolved"], 30)
    scene.equal("first told each alert once", [["firing", "resolved"]] * 2, [peers[0].told(n) for n in ("Stays", "Ends")])


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
