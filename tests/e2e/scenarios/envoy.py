"""Two real Envoys, one calling through the other, send spans and access logs over gRPC and over HTTP and are scraped."""

import concurrent.futures
import json
import re
import urllib.error
import urllib.request

from service import Service, job

# What is asked for, and how often: answered 200, answered 500 by the application, refused by the sidecar (closed port).
REQUESTS = {"/": 40, "/fails": 10, "/refused": 10}
TOTAL = sum(REQUESTS.values())
FAILED = REQUESTS["/fails"] + REQUESTS["/refused"]
# What Istio's provider `envoyOtelAls` puts into the body (pilot/pkg/model/telemetry_logging.go).
ISTIO_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
# The same as attributes, as a provider with `logFormat.labels` sends them.
ATTRIBUTES = {
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "duration": "%DURATION%",
    "bytes_sent": "%BYTES_SENT%",
}
TYPE = "type.googleapis.com/envoy."


def play(scene):
    upstream = scene.serve(lambda _method, path, *_: (500 if path == "/fails" else 200, "text/plain", b"hello"))
    service = Service(scene)
    frontend = Proxy(scene, service, "frontend", "grpc")
    cart = Proxy(scene, service, "cart", "http")
    routes = {"/refused": ("inbound|8081||", scene.port()), "/": ("inbound|8080||", upstream)}
    cart.start(routes)
    frontend.start({"/": ("outbound|8080||cart.shop.svc.cluster.local", cart.port)})
    service.config["scrape_configs"] = [job("envoy", frontend.admin, cart.admin, metrics_path="/stats/prometheus")]
    service.start()
    scene.eventually("both Envoys are scraped", lambda: service.number("sum(up)"), lambda up: up == 2, 20)
    ask(scene, frontend)
    spans(scene, service)
    access_logs(scene, service)
    graph(scene, service)
    pages(scene, service)
    series(scene, service)
    nothing_lost(scene, service)
    service.ends_well()


class Proxy:
    """An Envoy that stands before one workload, as a sidecar does."""

    def __init__(self, scene, service, name, tracer):
        self.scene, self.service, self.name, self.tracer = scene, service, name, tracer
        self.port, admin = scene.port(), scene.port()
        self.admin = f"127.0.0.1:{admin}"

    def start(self, routes):
        clusters = [cluster(name, port) for name, port in routes.values()]
        clusters.append(cluster("otel-grpc", address_port(self.service.grpc), http2=True))
        clusters.append(cluster("otel-http", address_port(self.service.http)))
        config = {
            "node": {
                "id": f"sidecar~10.4.0.9~{self.name}-v1-0.shop~shop.svc.cluster.local",
                "cluster": f"{self.name}.shop",
            },
            "admin": {"address": address(address_port(self.admin))},
            # As Istio's bootstrap does: without it, a host's name would become a part of the names of series.
            "stats_config": {
                "stats_tags": [
                    {"tag_name": "cluster_name", "regex": r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)"},
                ]
            },
            "static_resources": {"listeners": [self.listener(routes)], "clusters": clusters},
        }
        file = self.scene.folder / f"{self.name}.json"
        file.write_text(json.dumps(config, indent=1))
        envoy = self.scene.root / ".e2e" / "venv" / "bin" / "envoy"
        self.scene.start(self.name, [envoy, "-c", file, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"])
        self.scene.eventually(f"Envoy {self.name} is ready", self.ready, lambda ready: "LIVE" in ready, 20)

    def ready(self):
        return urllib.request.urlopen(f"http://{self.admin}/ready", timeout=2).read().decode()

    def listener(self, routes):
        hosts = [{"match": {"prefix": prefix}, "route": {"cluster": name}} for prefix, (name, _) in routes.items()]
        manager = {
            "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": self.name,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": hosts}]},
            "http_filters": [
                {"name": "router", "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router"}}
            ],
            "tracing": self.tracing(),
            "access_log": [self.access_log()],
        }
        filters = [{"name": "http", "typed_config": manager}]
        return {"name": self.name, "address": address(self.port), "filter_chains": [{"filters": filters}]}

    def tracing(self):
        tag = lambda name, value: {"tag": name, "literal": {"value": value}}
        return {
            "random_sampling": {"value": 100},
            "spawn_upstream_span": True,
            "custom_tags": [tag("istio.canonical_service", self.name), tag("istio.namespace", "shop")],
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": TYPE + "config.trace.v3.OpenTelemetryConfig",
                    "service_name": f"{self.name}.shop",
                }
                | self.sink("/v1/traces"),
            },
        }

    def access_log(self):
        text = {"string_value": ISTIO_TEXT}
        values = [{"key": key, "value": {"string_value": value}} for key, value in ATTRIBUTES.items()]
        what = {"body": text} if self.tracer == "grpc" else {"attributes": {"values": values}}
        common = {"log_name": "otel_envoy_accesslog", "transport_api_version": "V3", "buffer_flush_interval": "0.2s"}
        sink = self.sink("/v1/logs")
        where = {"common_config": common | sink} if self.tracer == "grpc" else {"http_service": sink["http_service"]}
        return {
            "name": "otel",
            "typed_config": {
                "@type": TYPE + "extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
            }
            | what
            | where,
        }

    def sink(self, path):
        if self.tracer == "grpc":
            return {"grpc_service": {"envoy_grpc": {"cluster_name": "otel-grpc"}, "timeout": "5s"}}
        uri = {"uri": f"http://{self.service.http}{path}", "cluster": "otel-http", "timeout": "5s"}
        return {"http_service": {"http_uri": uri}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def address_port(text):
    return int(text.rsplit(":", 1)[1])


def cluster(name, port, http2=False):
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    made = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
    if http2:
        options = {"@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"}
        options["explicit_http_config"] = {"http2_protocol_options": {}}
        made["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    return made


def ask(scene, frontend):
    def once(path):
        # Read to the end: who leaves before that is a caller that hung up, and the access logs say so.
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{frontend.port}{path}", timeout=10) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as refused:
            refused.read()
            return "failed"

    wanted = [path for path, count in REQUESTS.items() for _ in range(count)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        got = list(pool.map(once, wanted))
    scene.equal(
        "requests through both Envoys succeed and fail as meant",
        (REQUESTS["/"], FAILED),
        (got.count(200), got.count("failed")),
    )


def spans(scene, service):
    def counted(name, kind):
        return service.number(
            f'sum(traces_spanmetrics_calls_total{{service="{name}.shop",span_kind="SPAN_KIND_{kind}"}})'
        )

    for name, kind in [("frontend", "SERVER"), ("frontend", "CLIENT"), ("cart", "SERVER")]:
        scene.eventually(
            f"all {kind} spans of {name} arrive", lambda: counted(name, kind), lambda count: count == TOTAL, 30
        )
    # Over HTTP this Envoy sends no span of the upstream call of its own in some versions.
    upstream = counted("cart", "CLIENT")
    scene.holds("cart's upstream spans are all there or none", upstream in (0, TOTAL), upstream)
    scene.eventually(
        "accepted spans are as many as sent",
        lambda: service.own("otlp_accepted_spans_total"),
        lambda count: count == 3 * TOTAL + upstream,
        5,
    )
    errors = service.number(
        'sum(traces_spanmetrics_calls_total{service="cart.shop",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR"})'
    )
    scene.equal("failed calls are errors in the span metrics", FAILED, errors)


def access_logs(scene, service):
    def reasons(**labels):
        chosen = ",".join(f'{name}="{value}"' for name, value in labels.items())
        found = service.query(f"sum by (reason) (meshscope_access_log_requests_total{{{chosen}}})")
        return {labels["reason"]: count for labels, count in found}

    outbound = {"reporter": "source", "source_workload": "frontend-v1", "source_workload_namespace": "shop"}
    inbound = {"reporter": "destination", "destination_workload": "cart-v1", "destination_workload_namespace": "shop"}
    fine, failed, refused = REQUESTS.values()
    for what, labels, expected in [
        ("the frontend, as text over gRPC", outbound, {"answered": fine, "upstream_5xx": FAILED}),
        (
            "the cart, as attributes over HTTP",
            inbound,
            {"answered": fine, "upstream_5xx": failed, "connect_refused": refused},
        ),
    ]:
        scene.eventually(
            f"records of {what}", lambda chosen=labels: reasons(**chosen), lambda got, wanted=expected: got == wanted, 30
        )
    scene.equal("no record is refused", 0, service.own("otlp_rejected_log_records_total"))
    scene.equal("all are accepted", 2 * TOTAL, service.own("otlp_accepted_log_records_total"))
    find = lambda **wanted: service.api("/api/mesh/v1/access-logs", limit=200, **wanted)["records"]
    closed = find(destination="shop/cart-v1", reason="connect_refused")
    scene.equal("the refused ones are found", refused, len(closed))
    scene.equal("with their flags", {"UF"}, {record["flags"].split(",")[0] for record in closed})
    of_edge = find(source="frontend-v1", destination="shop/cart", code="5xx")
    scene.equal("the failures of the edge are found", FAILED, len(of_edge))
    traced = [record for record in of_edge if "traceId" in record]
    scene.equal("each names its trace", FAILED, len(traced))
    page = service.page("/logs?source=frontend-v1&code=503")
    scene.holds("the page shows the edge", "shop/frontend-v1" in page and "shop/cart" in page, page)
    page = service.page(f"/traces/{traced[0]['traceId']}")
    scene.holds("the trace's page shows its records", "What became of it" in page, page)
    written = lambda: service.own('persist_written_items_total{part="access_logs"}')
    scene.eventually("the records are written", written, lambda count: count == 2 * TOTAL, 10)


def graph(scene, service):
    edge = '{client="frontend.shop",server="cart.shop"}'
    calls = lambda name: service.number(f"sum(traces_service_graph_request_{name}{edge})")
    scene.eventually("the edge in the service-graph series", lambda: calls("total"), lambda count: count == TOTAL, 20)
    scene.equal("its failures", FAILED, calls("failed_total"))
    scene.equal("its latencies, as many as calls", TOTAL, calls("server_seconds_count"))
    scene.eventually("the edge in our graph", service.edges, lambda edges: ("frontend-v1", "cart-v1") in edges, 15)
    answer = service.api("/api/mesh/v1/graph")
    names = {node["id"]: node["name"] for node in answer["nodes"]}
    ours = [
        edge for edge in answer["edges"] if (names[edge["source"]], names[edge["target"]]) == ("frontend-v1", "cart-v1")
    ]
    scene.equal("the edge comes from traces", [["trace"]], [edge["reporters"] for edge in ours])
    by_code = {}
    for outcome in ours[0]["outcomes"]:
        by_code[outcome["code"]] = by_code.get(outcome["code"], 0) + round(outcome["count"])
    scene.equal("its outcomes by code", {"200": 40, "500": 10, "503": 10}, by_code)
    service.scene.holds("the graph page draws it", "cart" in service.page("/graph"), service.page("/graph"))


def pages(scene, service):
    search = lambda query: set(re.findall(r"/traces/([0-9a-f]{32})", service.page(f"/traces?service=cart.shop{query}")))
    scene.eventually(
        "the search finds a trace of each request", lambda: len(search("")), lambda count: count == TOTAL, 10
    )
    failed = search("&errors=1")
    scene.equal("the search by errors finds the failed ones", FAILED, len(failed))
    page = service.page(f"/traces/{sorted(failed)[0]}")
    for part in ["frontend.shop", "cart.shop", "guid:x-request-id", "sidecar~10.4.0.9~frontend-v1-0.shop"]:
        scene.holds(f"the trace's page shows {part}", part in page, page)


def series(scene, service):
    name = 'cluster_name="outbound|8080||cart.shop.svc.cluster.local"'
    scene.eventually(
        "Envoy counts the requests",
        lambda: service.number(f"envoy_cluster_upstream_rq_total{{{name}}}"),
        lambda count: count == TOTAL,
        10,
    )
    failures = lambda: service.number("max(envoy_cluster_upstream_cx_connect_fail)")
    scene.eventually("Envoy counts its failed connections", failures, lambda count: count >= 1, 10)
    scraped = service.number('min(scrape_samples_scraped{job="envoy"})')
    scene.holds("more than 1,000 series of each Envoy", scraped > 1000, scraped)
    # Envoy merges its histograms every five seconds.
    quantile = lambda: service.number(f"histogram_quantile(0.5, envoy_cluster_upstream_rq_time_bucket{{{name}}})")
    scene.eventually("a quantile of Envoy's histogram", quantile, lambda value: value > 0, 15)


def nothing_lost(scene, service):
    for name in [
        "otlp_refused_requests_total",
        "traces_lost_batches_total",
        "scrape_failures_total",
    ]:
        scene.equal(f"our own {name}", 0, service.own(name))
    scene.eventually(
        "the spans are written", lambda: service.own('persist_written_items_total{part="spans"}'), lambda written: written > 0, 10
    )
    traces = service.query(
        'envoy_tracing_opentelemetry_spans_dropped > 0 or envoy_cluster_upstream_rq_timeout{cluster_name=~"otel-.*"} > 0'
    )
    scene.equal("Envoy dropped no span and waited for no answer in vain", [], traces)
