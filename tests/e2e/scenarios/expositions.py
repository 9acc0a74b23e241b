"""Real pages of proxies, scraped over HTTP: every sample counted as another parser counts it, edges in the graph."""

import json
import re

from service import Service, job

OWN = {"own/istio.prom": """# TYPE istio_requests_total counter
istio_requests_total{reporter="source",source_workload="web",source_workload_namespace="shop",destination_workload="cart",\
destination_workload_namespace="shop",destination_service="cart.shop.svc.cluster.local",destination_service_name="cart",\
destination_service_namespace="shop",request_protocol="http",response_code="200",response_flags="-"} 7
"""}
OWN_PARSED = {"own/istio.prom": {"samples": 1, "openmetrics": False, "samples_by_name": {"istio_requests_total": 1}}}
ADDED_BY_SCRAPING = {
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
}
# A dump for backfilling: each of its series stands there at five times, which are ignored here.
DISTINCT = {"generic/dump-openmetrics.prom": {"my_counter": 1, "my_gauge": 1}}
# The labels that a scrape of Linkerd's proxies adds: who the pod is stands on none of its outbound series.
LINKERD = {"namespace": "linkerd-opaque-ports-test", "deployment": "slow-cooker-opaque-pod"}
SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*(?:_total|_count|_sum|_bucket)(?:\{.*\})?\s+)([0-9][0-9.eE+-]*)(.*)$", re.M)


def play(scene):
    folder = scene.root / ".." / "shared" / "fixtures" / "expositions"
    pages, parsed = dict(OWN), dict(OWN_PARSED)
    if folder.is_dir():
        theirs = json.loads((folder / "PARSED.json").read_text())
        parsed |= theirs
        pages |= {name: (folder / name).read_text() for name in theirs}
    else:
        scene.note(f"fixtures absent: {folder}; only our own small page is scraped")
    moved = {"by": 0}

    def answer(_method, path, _body, _headers):
        name = path.lstrip("/")
        kind = (
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
            if parsed[name]["openmetrics"]
            else "text/plain; version=0.0.4"
        )
        text = (
            SAMPLE.sub(lambda found: f"{found[1]}{float(found[2]) + moved['by']:g}{found[3]}", pages[name])
            if moved["by"]
            else pages[name]
        )
        return 200, kind, text.encode()

    address = f"127.0.0.1:{scene.serve(answer)}"
    # Timestamps on the pages are of years ago.
    jobs = [job(name, address, metrics_path=f"/{name}", honor_timestamps=False) for name in pages]
    for one in jobs:
        if one["job_name"].startswith("linkerd/"):
            one["static_configs"][0]["labels"] = LINKERD
    service = Service(scene, scrape_configs=jobs).start()
    scene.eventually("every page is scraped", lambda: service.number("count(up == 1)"), lambda up: up == len(pages), 20)
    for name in pages:
        counted(scene, service, name, parsed[name])
    edges(scene, service, pages, moved)
    scene.equal("no scrape failed", 0, service.own("scrape_failures_total"))
    service.ends_well()


def counted(scene, service, name, expected):
    names = DISTINCT.get(name, expected["samples_by_name"])
    got = {}
    for labels, count in service.query(f'count by (__name__) ({{job="{name}"}})'):
        metric = labels["__name__"]
        if metric not in ADDED_BY_SCRAPING:
            # The other parser gives every counter the ending _total.
            name_there = metric if metric in names else f"{metric}_total"
            got[name_there] = got.get(name_there, 0) + int(count)
    differs = {
        metric: (names.get(metric), got.get(metric))
        for metric in names.keys() | got
        if names.get(metric) != got.get(metric)
    }
    scene.equal(f"{name}: {expected['samples']} samples, by name (expected, got)", {}, differs)
    scene.equal(
        f"{name}: scrape_samples_scraped",
        expected["samples"],
        service.number(f'scrape_samples_scraped{{job="{name}"}}'),
    )


def edges(scene, service, pages, moved):
    """Counters that never move say nothing; after they moved, there are edges."""
    for _ in range(3):
        moved["by"] += 60
        before = service.number("min(timestamp(up))")
        scene.eventually(
            "a later page is scraped", lambda: service.number("min(timestamp(up))"), lambda at: at > before + 1, 10
        )
    wanted = {("web", "cart")}
    if "istio/mesh-1.1.requests.prom" in pages:
        wanted |= {("productpage-v1", "reviews-v1"), ("productpage-v1", "details-v1")}
    scene.eventually("edges of Istio's pages are in the graph", service.edges, lambda got: wanted <= got, 15)
    if "linkerd/proxy-sample.prom" in pages:
        wanted = {(LINKERD["deployment"], "opaque-pod")}
        scene.eventually("an edge of Linkerd's page is in the graph", service.edges, lambda got: wanted <= got, 15)
