"""`meshscope demo`: a graph within a minute, an alert at the webhook within five, a clean end."""

import html
import os
import re
import shutil
import time

from harness import processes_of, stop
from service import Asked

LONG = os.environ.get("E2E_LONG") == "1"


class Demo(Asked):
    """The demo with a folder of its own choosing, below the scenario's."""

    def __init__(self, scene):
        web, grpc, http = (f"127.0.0.1:{scene.port()}" for _ in range(3))
        self.scene, self.url = scene, f"http://{web}"
        command = [scene.binary, "demo", "--listen", web, "--otlp-grpc", grpc, "--otlp-http", http]
        # Its temporary folder is made below TMPDIR.
        self.temporary = scene.folder / "tmp"
        self.temporary.mkdir(mode=0o755)
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self.output = scene.folder / "demo.out"
        with open(self.output, "wb") as output:
            options = {"env": environment | {"TMPDIR": str(self.temporary)}, "stdout": output}
            self.process = scene.start("demo", command, **options)

    def told(self, pattern):
        """Lines of the demo's webhook that match."""
        return re.findall(pattern, self.output.read_text(), re.M)


def play(scene):
    began = time.monotonic()
    demo = Demo(scene)
    workloads = lambda: [n["name"] for n in demo.api("/api/mesh/v1/graph")["nodes"] if n["kind"] == "workload"]
    scene.eventually(
        "a graph of 12 workloads or more within a minute", lambda: len(workloads()), lambda count: count >= 12, 60
    )
    scene.note(f"workloads: {', '.join(sorted(workloads()))}")
    scene.eventually(
        "traces within a minute",
        lambda: len(re.findall(r"/traces/[0-9a-f]{32}", demo.page("/traces"))),
        lambda count: count > 20,
        30,
    )
    within = 300 - (time.monotonic() - began)
    scene.eventually(
        "the first incident's alert at the webhook within five minutes",
        lambda: demo.told(r"^\[terminal\] FIRING ServiceErrors.*$"),
        bool,
        within,
        1,
    )
    scene.note(f"told {time.monotonic() - began:.0f} s after the start")
    scene.eventually(
        "the alert's page shows it", lambda: demo.page("/alerts"), lambda page: "ServiceErrors" in page, 10
    )
    # What the mesh says of it, as its receivers are told.
    page = scene.eventually(
        "the alert names the failing edge, and how its requests end",
        lambda: html.unescape(demo.page("/alerts")),
        lambda page: re.search(r"\w+\.\w+ → \w+.*requests failed", page) and "of the failures" in page,
        20,
    )
    for what in ["edge", "graph", "trace"]:
        link = re.search(rf'<a href="{demo.url}(/[^"]*)">{what}</a>', page)
        scene.holds(f"its link to the {what} leads to a page", link and len(demo.page(link.group(1))) > 1000, link)
    unhealthy = lambda: [e["health"] for e in demo.api("/api/mesh/v1/graph", start=time.time() - 120)["edges"]]
    scene.holds(
        "the graph shows an unhealthy edge", set(unhealthy()) - {"healthy", "idle", "unknown"}, set(unhealthy())
    )
    pages_answer(scene, demo)
    browser(scene, demo.url)
    if LONG:
        guide(scene, demo, began)
    else:
        scene.note("the guide's HighErrorRate waits `for: 5m`: E2E_LONG=1 waits for it too")
    scene.equal("exit code 0 on SIGTERM", 0, stop(demo.process))
    scene.equal("no PostgreSQL is left", [], processes_of(demo.temporary))
    scene.equal("its temporary folder is gone", [], list(demo.temporary.iterdir()))
    log = (scene.folder / "demo.log").read_text()
    scene.holds("its log holds no panic and no error", "panicked" not in log and " ERROR " not in log, log[-2000:])


def guide(scene, demo, began):
    # The first failed request comes with the incident after 45 s, the rule waits five minutes more.
    within = 720 - (time.monotonic() - began)
    scene.eventually(
        "the guide's HighErrorRate at the webhook within 12 minutes",
        lambda: demo.told(r"^\[terminal\] FIRING HighErrorRate.*$"),
        bool,
        within,
        1,
    )
    scene.note(f"told {time.monotonic() - began:.0f} s after the start")
    scene.equal("the shipped pack stays off the terminal", [], demo.told(r"^\[terminal\] \w+ Istio.*$"))


def pages_answer(scene, demo):
    for path in ["/", "/graph", "/alerts", "/slos", "/traces", "/explore", "/targets"]:
        page = demo.page(path)
        loaded = re.findall(r'(?:\ssrc|<link[^>]*href)="([^"]*)"', page)
        scene.equal(
            f"{path} loads nothing from elsewhere", [], [link for link in loaded if not link.startswith(("/", "data:"))]
        )
    for asset in set(re.findall(r'(?:href|src)="(/assets/[^"]*)"', demo.page("/graph"))):
        scene.holds(f"{asset.split('.')[0]} is served", len(demo.page(asset)) > 100)


def browser(scene, url):
    """The pages in a real browser: `browser.mjs`, when it is there."""
    folder = scene.root / "tests" / "e2e"
    script = folder / "browser.mjs"
    if not script.exists():
        scene.note("tests/e2e/browser.mjs is absent: the pages are not looked at in a browser")
        return
    if not shutil.which("node") or not shutil.which("npm"):
        scene.holds("node and npm are installed", False, "install nodejs and npm (.ci/setup e2e)")
        return
    scene.equal("npm ci", 0, scene.run("npm", "ci", "--ignore-scripts", "--prefix", folder, within=300)[0])
    code, printed = scene.run("node", script, url, within=600, env=os.environ | {"BASE_URL": url})
    for line in printed.splitlines():
        print(f"    {line}")
    scene.equal("browser.mjs ends with exit code 0", 0, code)
