"""Istio with sidecars in one cluster, its ambient mode in another, and Linkerd beside them: one picture, each marked for what
it is. Looked at in a browser; E2E_PICTURES=FOLDER keeps what is seen."""

import os
import time

from scenarios.dashboard import run_browser
from service import Service, job

# Calls: source and destination as CLUSTER/NAMESPACE/NAME, requests a second.
SIDECARS = [("west/shop/web", "west/shop/cart", 20), ("west/shop/cart", "west/pay/bill", 8), ("west/pay/bill", "east/data/ledger", 4)]
WAYPOINT = [("east/front/portal", "east/data/ledger", 12)]
ZTUNNEL = [("east/front/portal", "east/data/ledger", 0.5), ("east/data/ledger", "east/data/store", 0.2)]
# Calls that begin when the browser asks for them, so that it sees a graph that changes.
LATE = [("west/shop/cart", "west/shop/stock", 6), ("west/shop/web", "west/pay/bill", 3)]
LINKERD = [("books/webapp", "books/authors", 15), ("books/webapp", "books/catalog", 9)]


def istio(reporter, source, destination, protocol, **more):
    (a, b, c), (x, y, z) = source.split("/"), destination.split("/")
    own = {
        "reporter": reporter, "source_workload": f"{c}-v1", "source_workload_namespace": b, "source_canonical_service": c,
        "source_cluster": a, "destination_workload": f"{z}-v1", "destination_workload_namespace": y,
        "destination_canonical_service": z, "destination_cluster": x, "destination_service_name": z,
        "destination_service_namespace": y, "destination_service": f"{z}.{y}.svc.cluster.local",
        "request_protocol": protocol, "connection_security_policy": "unknown" if reporter == "source" else "mutual_tls",
        "source_principal": f"spiffe://cluster.local/ns/{b}/sa/{c}",
        "destination_principal": f"spiffe://cluster.local/ns/{y}/sa/{z}",
    }
    return ",".join(f'{name}="{value}"' for name, value in (own | more).items())


def linkerd(direction, source, destination, **more):
    (a, b), (x, y) = source.split("/"), destination.split("/")
    own = {"direction": direction, "tls": "true", "authority": f"{y}.{x}.svc.cluster.local:80", "target_port": "8080"}
    if direction == "outbound":
        own |= {
            "namespace": a, "deployment": b, "dst_namespace": x, "dst_deployment": y, "dst_service": y,
            "server_id": f"{y}.{x}.serviceaccount.identity.linkerd.cluster.local",
        }
    else:
        own |= {"namespace": x, "deployment": y, "client_id": f"{b}.{a}.serviceaccount.identity.linkerd.cluster.local"}
    return ",".join(f'{name}="{value}"' for name, value in (own | more).items())


def page_of(began):
    """What the proxies of all report, as one page."""
    late = []

    def page(_method, path, _body, _headers):
        if path == "/late":
            late.append(time.monotonic())
            return 200, "text/plain", b""
        age = time.monotonic() - began
        requests, opened, sent, responses, latencies = [], [], [], [], []
        for reporters, calls in [(["source", "destination"], SIDECARS), (["waypoint"], WAYPOINT)]:
            for reporter in reporters:
                for source, destination, rate in calls:
                    labels = istio(reporter, source, destination, "http", response_code="200", response_flags="-")
                    requests.append(f"istio_requests_total{{{labels}}} {int(rate * age)}")
        for source, destination, rate in LATE if late else []:
            labels = istio("source", source, destination, "http", response_code="200", response_flags="-")
            requests.append(f"istio_requests_total{{{labels}}} {int(rate * (time.monotonic() - late[0]))}")
        for source, destination, rate in ZTUNNEL:
            for reporter in ["source", "destination"]:
                labels = istio(reporter, source, destination, "tcp", app="ztunnel", response_flags="-")
                opened.append(f"istio_tcp_connections_opened_total{{{labels}}} {int(rate * age)}")
                sent.append(f"istio_tcp_sent_bytes_total{{{labels}}} {int(rate * age * 9000)}")
        for source, destination, rate in LINKERD:
            for direction in ["outbound", "inbound"]:
                for kind, code, share in [("success", "200", 0.97), ("failure", "503", 0.03)]:
                    labels = linkerd(direction, source, destination, classification=kind, status_code=code)
                    responses.append(f"response_total{{{labels}}} {int(rate * age * share)}")
            labels = linkerd("outbound", source, destination)
            for bound, share in [("5", 0.5), ("50", 0.95), ("500", 1), ("+Inf", 1)]:
                latencies.append(f'response_latency_ms_bucket{{{labels},le="{bound}"}} {int(rate * age * share)}')
        families = {
            "istio_requests_total": requests, "istio_tcp_connections_opened_total": opened,
            "istio_tcp_sent_bytes_total": sent, "response_total": responses,
        }
        lines = [line for name, own in families.items() for line in [f"# TYPE {name} counter", *own]]
        return 200, "text/plain; version=0.0.4", "\n".join([*lines, *latencies, ""]).encode()

    return page


def play(scene):
    port = scene.serve(page_of(time.monotonic()))
    service = Service(scene, scrape_configs=[job("proxies", f"127.0.0.1:{port}")]).start()
    edges = {(f"{a.split('/')[-1]}-v1", f"{b.split('/')[-1]}-v1") for a, b, _ in SIDECARS + WAYPOINT + ZTUNNEL}
    edges |= {(a.split("/")[-1], b.split("/")[-1]) for a, b, _ in LINKERD}
    scene.eventually("every call is one edge", lambda: edges - service.edges(), lambda missing: not missing, 60, 1)
    # Rates need some minutes' share to be worth a look.
    time.sleep(20)
    pictures = os.environ.get("E2E_PICTURES")
    os.environ["E2E_LATE"] = f"http://127.0.0.1:{port}/late"
    run_browser(scene, service.url, "meshes", *([pictures] if pictures else []))
    service.ends_well()
