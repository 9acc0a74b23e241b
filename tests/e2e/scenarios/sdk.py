"""The OpenTelemetry SDK for Python delivers spans over gRPC and over HTTP."""

import re
import subprocess

from service import Service

# Runs in the virtual environment: a client span, the server span it caused, and a failed one, 50 times.
CLIENT = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
kind, endpoint, suffix = sys.argv[1:]
if kind == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    exporter = lambda: OTLPSpanExporter(endpoint=endpoint, insecure=True)
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    exporter = lambda: OTLPSpanExporter(endpoint=endpoint + "/v1/traces")
def tracer(service):
    provider = TracerProvider(resource=Resource.create({"service.name": service, "k8s.namespace.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    return provider, provider.get_tracer("e2e")
(callers, caller), (servers, server) = tracer("orders-" + suffix), tracer("stock-" + suffix)
for number in range(50):
    with caller.start_as_current_span("GET /stock", kind=trace.SpanKind.CLIENT) as outer:
        with server.start_as_current_span("GET /stock", kind=trace.SpanKind.SERVER) as inner:
            inner.set_attribute("note", "<b>\\u00fcml\\u00e4ut</b>")
            if number % 10 == 0:
                inner.set_status(trace.Status(trace.StatusCode.ERROR, "out of stock"))
        first = outer.get_span_context().trace_id
callers.shutdown(); servers.shutdown()
print(format(first, "032x"))
"""


def play(scene):
    service = Service(scene).start()
    python = scene.root / ".e2e" / "venv" / "bin" / "python"
    for kind, endpoint in [("grpc", f"http://{service.grpc}"), ("http", f"http://{service.http}")]:
        sent = subprocess.run([python, "-c", CLIENT, kind, endpoint, kind], capture_output=True, text=True, timeout=60)
        scene.equal(f"{kind}: the SDK reports no error", (0, ""), (sent.returncode, sent.stderr))
        both = f'service=~"(orders|stock)-{kind}"'
        scene.eventually(
            f"{kind}: all 100 spans are counted",
            lambda: service.number(f"sum(traces_spanmetrics_calls_total{{{both}}})"),
            lambda n: n == 100,
            20,
        )
        edge = f'{{client="orders-{kind}",server="stock-{kind}"}}'
        scene.equal(f"{kind}: 50 calls are paired", 50, service.number(f"traces_service_graph_request_total{edge}"))
        scene.equal(f"{kind}: 5 of them failed", 5, service.number(f"traces_service_graph_request_failed_total{edge}"))
        trace = sent.stdout.strip()
        page = scene.eventually(
            f"{kind}: the trace has its page",
            lambda: service.page(f"/traces/{trace}"),
            lambda page: f"stock-{kind}" in page,
            10,
        )
        scene.holds(
            f"{kind}: attribute values are escaped",
            "<b>" not in page and ("&lt;b&gt;" in page or "&#60;b&#62;" in page),
            page,
        )
        found = service.page(f"/traces?service=stock-{kind}")
        scene.equal(
            f"{kind}: the search finds 50 traces of the service",
            50,
            len(set(re.findall(r"/traces/[0-9a-f]{32}", found))),
        )
        failed = service.page(f"/traces?service=stock-{kind}&errors=1")
        scene.equal(
            f"{kind}: the search by errors finds the five", 5, len(set(re.findall(r"/traces/[0-9a-f]{32}", failed)))
        )
    scene.equal("200 spans were accepted", 200, service.own("otlp_accepted_spans_total"))
    scene.equal("no request was refused", 0, service.own("otlp_refused_requests_total"))
    service.ends_well()
