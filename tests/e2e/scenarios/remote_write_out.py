"""We send to a real Prometheus 3 by remote write, 1.0 and 2.0: queries give the same on both, also after faults."""

import json
import pathlib
import signal
import time

from scenarios.remote_write import PEERS, compared, page
from service import Asked, Service, job

PROTOCOLS = {"one": "prometheus.WriteRequest", "two": "io.prometheus.write.v2.Request"}
# On the receiver `@` becomes the label that we add; on our side there is none.
QUERIES = [
    "requests_total{@}",
    "latency_seconds_bucket{@}",
    "sum by (le) (latency_seconds_bucket{@})",
    "rate(requests_total{@}[5s])",
    "temperature{@}",
    "up{@}",
    "doubled{@}",
    'ALERTS{alertstate="firing",@}',
    'count({job="page",@})',
]
RULES = {
    "groups": [
        {
            "name": "g",
            "rules": [
                {"record": "doubled", "expr": "requests_total * 2"},
                {"alert": "Warm", "expr": "temperature > 23", "labels": {"severity": "info"}},
            ],
        }
    ]
}


class Receiver(Asked):
    """Prometheus that takes remote write and scrapes nothing."""

    def __init__(self, scene, name: str, binary: pathlib.Path):
        self.scene, self.name, self.binary = scene, name, binary
        self.url = f"http://127.0.0.1:{scene.port()}"
        self.folder = scene.folder / f"prometheus-{name}"
        self.folder.mkdir()
        (self.folder / "prometheus.yml").write_text("{}")
        self.start()

    def start(self):
        command = [self.binary, f"--config.file={self.folder / 'prometheus.yml'}", "--web.enable-remote-write-receiver"]
        command += ["--enable-feature=exemplar-storage"]
        command += [f"--storage.tsdb.path={self.folder / 'data'}", f"--web.listen-address={self.url[7:]}"]
        self.process = self.scene.start(f"prometheus-{self.name}", command)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def play(scene):
    binary = next((one for one in PEERS if one.exists()), None)
    if binary is None:
        scene.note("no prometheus found: shared/tools/peers.sh brings it")
        return
    receivers = {name: Receiver(scene, name, binary) for name in PROTOCOLS}
    remotes = [
        {
            "url": f"{receivers[name].url}/api/v1/write",
            "name": name,
            "protobuf_message": protocol,
            "send_exemplars": True,
            "queue_config": {"batch_send_deadline": "500ms"},
            "write_relabel_configs": [{"target_label": "sender", "replacement": name}],
        }
        for name, protocol in PROTOCOLS.items()
    ]
    (scene.folder / "rules.yaml").write_text(json.dumps(RULES))
    pages = [job("page", page(scene))]
    service = Service(scene, scrape_configs=pages, rule_files=["rules.yaml"], remote_write=remotes).start()
    for name, receiver in receivers.items():
        compared(scene, name, service, receiver, QUERIES)
    while_it_is_away(scene, service, receivers["one"])
    after_a_kill(scene, service, receivers)
    a_reload(scene, service, receivers, remotes)
    metadata = service.own('remote_write_sent_metadata_total{remote="one"}')
    scene.holds(f"metadata of {metadata:.0f} metrics was taken in requests of its own", metadata >= 3, metadata)
    for name in ["failed", "dropped", "too_old"]:
        scene.equal(f"{name} samples", 0, int(service.own(f"remote_write_{name}_samples_total")))
    stopped = time.time()
    service.ends_well()
    # What was accepted before the end has arrived.
    for name, receiver in receivers.items():
        newest = receiver.number(f'timestamp(up{{sender="{name}"}})', time=time.time())
        scene.holds(f"{name}: the end sends what waits", stopped - newest < 2, stopped - newest)


def while_it_is_away(scene, service, receiver):
    """A receiver that was killed gets all that it missed, and the other none the later."""
    receiver.kill()
    began = int(time.time())
    scene.eventually("it is tried again", lambda: service.own("remote_write_retried_samples_total"), bool, 20)
    time.sleep(8)
    waiting = service.own('remote_write_pending_samples{remote="one"}')
    scene.holds(f"{waiting:.0f} samples wait for it", waiting > 50, waiting)
    scene.holds(
        "the other one is not held up", service.own('remote_write_pending_samples{remote="two"}') < 50, "held up"
    )
    receiver.start()
    scene.eventually(
        "nothing waits any more", lambda: service.own('remote_write_pending_samples{remote="one"}'), lambda n: n < 50, 40
    )
    time.sleep(3)
    end = int(time.time()) - 3
    seconds = end - began + 5
    for expr in ["requests_total{@}", "temperature{@}", "doubled{@}"]:
        both = [
            {json.dumps(one["metric"].get("code")) + one["metric"].get("room", ""): one["values"] for one in data["result"]}
            for data in (
                service.api("/api/v1/query", query=expr.replace("@", "") + f"[{seconds}s]", time=end),
                receiver.api("/api/v1/query", query=expr.replace("@", 'sender="one"') + f"[{seconds}s]", time=end),
            )
        ]
        count = sum(len(values) for values in both[0].values())
        scene.equal(f"{expr}: the same {count} samples over {seconds} s, each once", both[0], both[1])


def after_a_kill(scene, service, receivers):
    """We are killed while one receiver is away: both get what they miss from the journal, no sample twice or never."""
    began = int(time.time()) - 5
    receivers["one"].kill()
    time.sleep(10)
    service.kill()
    killed = time.time()
    receivers["one"].start()
    time.sleep(3)
    service.start()
    waits = lambda: sum(service.own(f'remote_write_{what}_samples{{remote="{name}"}}') for what in ("journal", "pending") for name in receivers)
    scene.eventually("scrapes go on", lambda: service.query("up"), bool, 40)
    scene.eventually("nothing waits any more", waits, lambda n: n < 100, 60)
    time.sleep(4)
    end = int(time.time()) - 4
    for name, receiver in receivers.items():
        for expr in ["requests_total{@}", "temperature{@}", "up{@}", "doubled{@}"]:
            window = f"[{end - began}s]"
            ours, theirs = (
                {(json.dumps(one["metric"].get("code")) + one["metric"].get("room", ""), at) for one in data["result"] for at, _ in one["values"]}
                for data in (
                    service.api("/api/v1/query", query=expr.replace("@", "") + window, time=end),
                    receiver.api("/api/v1/query", query=expr.replace("@", f'sender="{name}"') + window, time=end),
                )
            )
            scene.equal(f"{name}: none of {len(ours)} samples of {expr} is missing", [], sorted(ours - theirs))
            # What was accepted in the last moment is not in the journal, and may have been sent.
            late = [at for _, at in theirs - ours if not killed - 3 < at < killed + 1]
            scene.equal(f"{name}: and it has no others", [], late)
        missed = service.own(f'remote_write_missed_journal_entries_total{{remote="{name}"}}')
        scene.equal(f"{name}: nothing was trimmed before", 0, int(missed))


def a_reload(scene, service, receivers, remotes):
    """What a rule drops no longer comes; the other receiver goes on as it was."""
    drop = {"source_labels": ["__name__"], "regex": "temperature", "action": "drop"}
    remotes[1]["write_relabel_configs"].append(drop)
    service.file.write_text(json.dumps(service.config))
    service.process.send_signal(signal.SIGHUP)
    sent = lambda name: len(receivers[name].query(f'count_over_time(temperature{{sender="{name}"}}[4s])'))
    scene.eventually("temperature no longer reaches two", lambda: (sent("one"), sent("two")), lambda n: n == (2, 0), 30)
