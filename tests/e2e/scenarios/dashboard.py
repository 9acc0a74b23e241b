"""The pages over a large synthetic mesh, an empty one and one of two calls, in a real browser; and while a server
restarts and PostgreSQL is away.

EDGES of the large mesh are drawn; MORE edges come after that, more than a drawing may have, so the page must say so and not
freeze.
"""

import contextlib
import os
import pathlib
import random
import signal
import threading
import time

from harness import fetch
from service import Service, job

SERVICES, EDGES, MORE = 500, 5_000, 20_000
# As many targets, so that no page of samples is too large.
PARTS = 8
# As the text format writes it: markup, a quote, a line break, a turn of direction, a picture.
HOSTILE = "<script>alert(1)</script>\\\"\\n\u202e\U0001f980"


class Mesh:
    """What proxies of many workloads report, as one page: counters that rise with the time."""

    def __init__(self, edges):
        self.began = time.monotonic()
        self.lock = threading.Lock()
        self.of(edges)

    def of(self, count):
        chosen = random.Random(7)
        pairs = []
        seen = set()
        while len(pairs) < count:
            # Most calls lead from a lower number to a higher one, as in real meshes; some lead back.
            source, target = chosen.randrange(SERVICES), chosen.randrange(SERVICES)
            if source != target and (source, target) not in seen:
                seen.add((source, target))
                pairs.append((min(source, target), max(source, target)) if chosen.random() < 0.95 else (source, target))
        rates = [(*pair, chosen.choice([0.5, 2, 9, 40]), chosen.random() < 0.01) for pair in dict.fromkeys(pairs)]
        lines = [(labels(source, target), rate, fails) for source, target, rate, fails in rates]
        if count:
            lines.append((labels(1, 2).replace('destination_workload="s2"', f'destination_workload="{HOSTILE}"'), 50, True))
        with self.lock:
            self.lines = lines

    def page(self, _method, path, _body, _headers):
        age, part = time.monotonic() - self.began, int(path.rsplit("/", 1)[-1])
        requests = []
        with self.lock:
            lines = self.lines[part::PARTS]
        for own, rate, fails in lines:
            done = int(rate * age)
            failed = done // 5 if fails else 0
            requests.append(f'istio_requests_total{{{own},response_code="200",response_flags="-"}} {done - failed}')
            if fails:
                requests.append(f'istio_requests_total{{{own},response_code="503",response_flags="UH"}} {failed}')
        text = "\n".join(["# TYPE istio_requests_total counter", *requests, ""])
        return 200, "text/plain; version=0.0.4", text.encode()


def labels(source, target):
    return (
        f'reporter="source",source_workload="s{source}",source_workload_namespace="ns{source % 20}",'
        f'source_canonical_service="s{source}",destination_workload="s{target}",'
        f'destination_workload_namespace="ns{target % 20}",destination_service_namespace="ns{target % 20}",'
        f'destination_service_name="s{target}",destination_canonical_service="s{target}",'
        f'request_protocol="http",connection_security_policy="unknown"'
    )


def play(scene):
    mesh = Mesh(0)
    port = scene.serve(mesh.page)
    limits = {"scrape_interval": "5s", "scrape_timeout": "4900ms"}
    jobs = [job(f"mesh-{n}", f"127.0.0.1:{port}", metrics_path=f"/part/{n}") | limits for n in range(PARTS)]
    service = Service(scene, scrape_configs=jobs)
    browser = lambda *words: run_browser(scene, service.url, *words)
    mesh.of(0)
    service.start()
    browser("empty")
    drawn = lambda: service.page("/graph?range=1h&boxes=none").count('<path class="line"')
    mesh.of(1)
    scene.eventually("two edges are drawn, one of a hostile name", drawn, lambda count: count == 2, 60, 1)
    browser("small")
    mesh.of(EDGES)
    scene.eventually("5,000 edges are drawn", drawn, lambda count: count > EDGES * 0.9, 120, 2)
    for path in ["/graph?range=1h", "/graph?range=1h&boxes=cluster", "/", "/service/ns1/s1", "/targets", "/status"]:
        began = time.monotonic()
        size = len(service.page(path))
        scene.note(f"{path}: {time.monotonic() - began:.2f} s, {size / 1e6:.1f} MB")
    browser("large")
    restart(scene, service)
    mesh.of(MORE)
    says = lambda: "quieter edges are left out" in service.page("/graph?range=1h")
    scene.eventually("20,000 edges: the page says that the quieter ones are left out", says, bool, 180, 3)
    browser("larger")
    away(scene, service)
    service.ends_well()


def restart(scene, service):
    """A page that is open goes on when the server is there again: `browser.mjs live` waits while this restarts it."""
    script = scene.root / "tests" / "e2e" / "browser.mjs"
    marks = [scene.folder / name for name in ("ready", "away", "back")]
    words = ["node", script, "live", service.url, *marks]
    watching = scene.start("browser", words)
    scene.eventually("the page is open", marks[0].exists, bool, 60)
    scene.equal("the server ends at once, although a page listens", 0, timed(scene, service.stop))
    scene.eventually("the page says that the server is away", marks[1].exists, bool, 60)
    service.start()
    scene.eventually("the page goes on by itself", marks[2].exists, bool, 90)
    scene.equal("browser.mjs live ends well", 0, watching.wait(60))


def timed(scene, act):
    began = time.monotonic()
    code = act()
    scene.note(f"it took {time.monotonic() - began:.1f} s")
    return code


def away(scene, service):
    """PostgreSQL is stopped: every page still answers, and says so."""
    postgres = service.postgres()
    held = [postgres, *children(postgres)]
    for process in held:
        os.kill(process, signal.SIGSTOP)
    try:
        pages = ["/", "/graph", "/service/ns1/s1", "/alerts", "/alerts/history", "/changes", "/traces", "/logs",
                 "/explore?query=up", "/targets", "/status", "/notifications", "/silences"]
        for path in pages:
            began = time.monotonic()
            page = fetch(service.url + path, timeout=60)
            scene.holds(f"{path} answers while PostgreSQL hangs", "<h1" in page, page[:300])
            scene.note(f"{path}: {time.monotonic() - began:.2f} s")
        told = lambda: "PostgreSQL is away" in service.page("/status")
        scene.eventually("the pages say that PostgreSQL is away", told, bool, 60, 1)
    finally:
        for process in held:
            os.kill(process, signal.SIGCONT)
    scene.eventually("and no more when it is back", lambda: "PostgreSQL is away" in service.page("/"), lambda on: not on, 90, 1)


def children(parent):
    """Its processes: PostgreSQL has one for each connection."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def run_browser(scene, url, *words):
    script = scene.root / "tests" / "e2e" / "browser.mjs"
    code, printed = scene.run("node", script, *words, url, within=600)
    for line in printed.splitlines():
        print(f"    {line}")
    scene.equal(f"browser.mjs {' '.join(words)} ends with exit code 0", 0, code)
