"""kill -9 of meshscope and of its PostgreSQL under load: samples, alert states, edges and notifications outlive both."""

import datetime
import json
import os
import pathlib
import signal
import time

from harness import Webhook
from service import Service, job

TARGETS, SERIES = 20, 200
EDGE = (
    'istio_requests_total{{reporter="source",source_workload="web",source_workload_namespace="shop",'
    'destination_workload="cart",destination_workload_namespace="shop",destination_service="cart.shop.svc.cluster.local",'
    'destination_service_name="cart",destination_service_namespace="shop",request_protocol="http",response_code="200",'
    'response_flags="-"}} {}\n'
)
RULES = {
    "groups": [
        {
            "name": "faults",
            "interval": "1s",
            "rules": [
                {"alert": "Sick", "expr": "sick > 0", "for": "2s"},
                {"alert": "SickLater", "expr": "sick_later > 0", "for": "1s"},
                # As in Prometheus, only a `for` of ten minutes or more is taken up again after a restart.
                {"alert": "SickLong", "expr": "sick > 0", "for": "15m"},
            ],
        }
    ]
}


class Targets:
    """Pages whose samples are the time at which they were served; remembers when each was."""

    def __init__(self, scene):
        self.sick, self.sick_later = 1, 0
        self.served: dict[str, list[float]] = {}
        self.ports = [scene.serve(self.answer) for _ in range(TARGETS)]
        self.addresses = [f"127.0.0.1:{port}" for port in self.ports]

    def answer(self, _method, _path, _body, headers):
        at = time.time()
        lines = [f'load{{series="{number}"}} {at:.3f}\n' for number in range(SERIES)]
        if headers["Host"] == self.addresses[0]:
            lines += [EDGE.format(round(at * 10)), f"sick {self.sick}\nsick_later {self.sick_later}\n"]
        self.served.setdefault(headers["Host"], []).append(round(at, 3))
        return 200, "text/plain; version=0.0.4", "".join(lines).encode()


def play(scene):
    targets, hook = Targets(scene), Webhook(scene)
    rules = scene.folder / "rules.yaml"
    rules.write_text(json.dumps(RULES))
    service = Service(
        scene,
        scrape_configs=[job("load", *targets.addresses)],
        rule_files=[str(rules)],
        route={
            "receiver": "hook",
            "group_by": ["alertname"],
            "group_wait": "1s",
            "group_interval": "2s",
            "repeat_interval": "1h",
        },
        receivers=[{"name": "hook", "webhook_configs": [{"url": hook.url}]}],
    ).start()
    scene.eventually("every target is scraped", lambda: service.number("count(up == 1)"), lambda up: up == TARGETS, 20)
    scene.eventually("the first notification", lambda: len(hook.of("Sick")), lambda count: count == 1, 20)
    scene.eventually("the edge", service.edges, lambda edges: ("web", "cart") in edges, 20)
    # Edges are written every ten seconds, samples every second.
    scene.eventually(
        "the edge is written", lambda: service.own('persist_written_items_total{part="rollups"}'), lambda count: count > 0, 25
    )
    gap = killed_meshscope(scene, service, targets, hook)
    killed_postgres(scene, service, targets, hook, gap)
    service.ends_well()


def killed_meshscope(scene, service, targets, hook):
    since = active_since(service)
    scene.holds("an alert waits for its 15 minutes", since is not None, since)
    service.kill()
    killed_at = time.time()
    postgres_lives_on = alive(service.postgres())
    service.start()
    took = time.time() - killed_at
    scene.note(
        f"the private PostgreSQL {'outlived' if postgres_lives_on else 'ended with'} meshscope; back after {took:.1f} s"
    )
    restarted_at = time.time()
    kept(scene, service, targets, [(0, killed_at - 1.0)], "before the kill, up to its last second")
    scene.equal("the edge of before is in the graph at once", True, ("web", "cart") in service.edges())
    scene.eventually("scraping goes on", lambda: service.number("count(up == 1)"), lambda up: up == TARGETS, 20)
    # Prometheus adds the time it was down to a pending alert.
    shifted = lambda now: now is not None and 0 <= now - since < restarted_at - killed_at + 4
    scene.eventually("the waiting alert waits on", lambda: active_since(service), shifted, 25)
    time.sleep(6)
    scene.equal(
        "nobody is told again of what they know",
        ["first notification"],
        [body["notification_reason"] for body in hook.of("Sick")],
    )
    return killed_at - 1.0, restarted_at


def killed_postgres(scene, service, targets, hook, gap):
    data = service.folder / "data"
    away = pathlib.Path(f"{data}.away")
    first = service.postgres()
    # Away until its folder is back: a restart alone takes less than a second.
    data.rename(away)
    os.kill(first, signal.SIGKILL)
    gone_at = time.time()
    for path in ["/", "/alerts", "/graph", "/traces"]:
        scene.eventually(
            f"{path} says that PostgreSQL is away",
            lambda: service.page(path),
            lambda page: "PostgreSQL is away" in page,
            15,
        )
    targets.sick_later = 1
    scene.eventually("a new alert is told meanwhile", lambda: len(hook.of("SickLater")), lambda count: count == 1, 20)
    newest = service.number("min(timestamp(load))")
    scene.holds("scraping goes on meanwhile", newest > gone_at + 1, newest - gone_at)
    # Away for longer than the supervisor's first tries.
    time.sleep(max(0.0, gone_at + 10 - time.time()))
    away.rename(data)
    back_at = time.time()
    scene.eventually(
        "PostgreSQL runs again", lambda: alive(service.postgres()) and service.postgres() != first, bool, 60
    )
    scene.eventually(
        "the pages no longer say it is away",
        lambda: service.page("/"),
        lambda page: "PostgreSQL is away" not in page,
        30,
    )
    scene.note(
        f"PostgreSQL was away for {back_at - gone_at:.0f} s and in use again {time.time() - back_at:.1f} s after it could be"
    )
    scene.eventually(
        "all that waited is written", lambda: service.own("persist_pending_items"), lambda waiting: waiting == 0, 10, 0.05
    )
    time.sleep(2)
    written = time.time() - 1.0
    # What is only in memory ends here; what is in the store comes back.
    service.kill()
    killed_at = time.time()
    service.start()
    kept(
        scene,
        service,
        targets,
        [(0, gap[0]), (gap[1], written)],
        "of before, of while PostgreSQL was away, and of after",
    )
    scene.eventually("scraping goes on", lambda: service.number("count(up == 1)"), lambda up: up == TARGETS, 20)
    time.sleep(6)
    told = [(body["groupLabels"]["alertname"], body["notification_reason"]) for body in hook.bodies]
    scene.note(f"told {', '.join(format(body['at'] - killed_at, '.1f') for body in hook.bodies)} s after the last kill")
    scene.equal(
        "each alert was told once in all", [("Sick", "first notification"), ("SickLater", "first notification")], told
    )
    state = {alert["labels"]["alertname"]: alert["state"] for alert in service.api("/api/v1/alerts")["alerts"]}
    scene.equal("both fire", {"Sick": "firing", "SickLater": "firing", "SickLong": "pending"}, state)


def kept(scene, service, targets, spans, when):
    """Every page that was served is there as a sample, of every target."""
    missing, count = {}, 0
    stored = service.samples('load{series="7"}[1h]')
    for address, served in targets.served.items():
        got = {round(value, 3) for _, value in stored.get(address, [])}
        wanted = {at for at in served if any(since < at < until for since, until in spans)}
        count += len(wanted)
        if lost := sorted(wanted - got):
            missing[address] = lost
    scene.holds(
        f"all {count} scrapes {when} are there, of {len(targets.served)} targets", count > 0 and not missing, missing
    )
    per_series = service.query("count by (series) (count_over_time(load[1h]))")
    scene.equal("and every series of them", SERIES, len(per_series))


def active_since(service):
    """Since when the alert with the long `for` is active."""
    alerts = service.api("/api/v1/alerts")["alerts"]
    times = [alert["activeAt"] for alert in alerts if alert["labels"]["alertname"] == "SickLong"]
    return datetime.datetime.fromisoformat(times[0][:23].rstrip("Z") + "+00:00").timestamp() if times else None


def alive(pid):
    # A zombie has no command line.
    try:
        return bool(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
