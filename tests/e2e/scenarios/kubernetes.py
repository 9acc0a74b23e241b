"""We and a real Prometheus 3.5 discover the same cluster: equal targets with equal labels, also after changes and faults."""

import collections
import json
import subprocess
import time

from cluster import Cluster
from scenarios.remote_write import PEERS
from service import Asked, Service

NOTHING = [{"source_labels": ["__address__"], "regex": ".*", "action": "drop"}]


def jobs(url: str) -> list[dict]:
    """One job for each role and setting; their targets are dropped, so that nobody scrapes them."""
    entries = {
        "pod": {"role": "pod"},
        "pod-node": {"role": "pod", "attach_metadata": {"node": True}},
        "pod-shop": {"role": "pod", "namespaces": {"names": ["shop", "empty"]}},
        "pod-cart": {"role": "pod", "selectors": [{"role": "pod", "label": "app=cart"}]},
        "service": {"role": "service"},
        "endpoints": {"role": "endpoints"},
        "endpoints-node": {"role": "endpoints", "attach_metadata": {"node": True}},
        "slices": {"role": "endpointslice"},
        "slices-node": {"role": "endpointslice", "attach_metadata": {"node": True}},
        "node": {"role": "node"},
        "ingress": {"role": "ingress"},
    }
    return [
        {"job_name": name, "kubernetes_sd_configs": [entry | {"api_server": url}], "relabel_configs": NOTHING}
        for name, entry in entries.items()
    ]


def named(name: str, namespace: str | None = "shop", **more) -> dict:
    meta = {"name": name, "uid": f"uid-{name}"} | more
    return meta | ({"namespace": namespace} if namespace else {})


def pod(name: str, ip: str, app: str, **status) -> dict:
    ports = [
        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
        {"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"},
    ]
    owner = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-5d", "uid": "r", "controller": True}]
    return {
        "metadata": named(
            name,
            labels={"app": app, "app.kubernetes.io/name": app, "empty": ""},
            annotations={"prometheus.io/scrape": "true", "x-y/z": "ü"},
            ownerReferences=owner,
        ),
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": app, "image": f"{app}:1", "ports": ports[:1]},
                {"name": "istio-proxy", "image": "proxyv2:1.29", "ports": ports[1:]},
                {"name": "quiet", "image": "quiet:1"},
            ],
            "initContainers": [
                {"name": "istio-init", "image": "proxyv2:1.29"},
                {
                    "name": "sidecar",
                    "image": "side:1",
                    "restartPolicy": "Always",
                    "ports": [{"name": "side", "containerPort": 9000, "protocol": "TCP"}],
                },
            ],
        },
        "status": {
            "podIP": ip,
            "hostIP": "10.1.0.1",
            "phase": "Running",
            "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": app, "containerID": f"containerd://{name}", "image": "i", "imageID": "", "ready": True, "restartCount": 0}],
            "initContainerStatuses": [{"name": "sidecar", "containerID": "containerd://s", "image": "i", "imageID": "", "ready": True, "restartCount": 0}],
        }
        | status,
    }


def fill(cluster: Cluster) -> None:
    put = cluster.put
    put("pods", **pod("cart-1", "10.0.0.1", "cart"))
    put("pods", **pod("cart-2", "fd00::2", "cart", conditions=[{"type": "Ready", "status": "False"}]))
    put("pods", **pod("new-1", "", "new", phase="Pending", conditions=None))
    put("pods", **pod("gone-1", "10.0.0.9", "gone", phase="Failed", conditions=[], hostIP=""))
    for name, ip, labels, container, port in [
        ("istiod-1", "10.2.0.1", {"app": "istiod"}, "discovery", ("http-debug", 8080)),
        ("ztunnel-1", "fd00::99", {"app": "ztunnel"}, "istio-proxy", ("ztunnel-stats", 15020)),
        ("emoji-1", "10.2.0.3", {"app": "emoji", "linkerd.io/control-plane-ns": "linkerd", "linkerd.io/proxy-deployment": "emoji"}, "linkerd-proxy", ("linkerd-admin", 4191)),
        ("done-1", "10.2.0.4", {"linkerd.io/control-plane-component": "identity"}, "identity", ("ident-admin", 9990)),
    ]:
        ports = [{"name": port[0], "containerPort": port[1], "protocol": "TCP"}]
        containers = [{"name": container, "image": "i", "ports": ports}]
        put("pods", metadata=named(name, "mesh", labels=labels), spec={"nodeName": "node-2", "containers": containers}, status={"podIP": ip, "phase": "Running"})
    bare = {"metadata": named("bare", "other"), "spec": {"containers": [{"name": "c", "image": "c"}]}}
    put("pods", **bare, status={"podIP": "10.0.0.7", "phase": "Running"})
    ports = [
        {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080},
        {"name": "", "port": 53, "protocol": "UDP", "targetPort": 53},
    ]
    labels = {"app": "cart", "team.x/y": "a-b"}
    put("services", metadata=named("cart", labels=labels, annotations={"a/b": "c"}), spec={"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": ports})
    put("services", metadata=named("outside"), spec={"type": "ExternalName", "externalName": "x.example", "ports": ports[:1]})
    put("services", metadata=named("headless", "other"), spec={"clusterIP": "None"})

    def to(name):
        return {"kind": "Pod", "name": name, "namespace": "shop"}

    addresses = [
        {"ip": "10.0.0.1", "nodeName": "node-1", "hostname": "h", "targetRef": to("cart-1")},
        {"ip": "10.9.9.9"},
    ]
    waiting = [{"ip": "fd00::2", "nodeName": "node-2", "targetRef": to("cart-2")}]
    subsets = [
        {"addresses": addresses, "notReadyAddresses": waiting, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]},
        {"addresses": [{"ip": "10.0.0.1", "targetRef": to("cart-1")}], "ports": [{"port": 53, "protocol": "UDP"}]},
    ]
    put("endpoints", metadata=named("cart", labels=labels, annotations={"e/f": "g"}), subsets=subsets)
    put("endpoints", metadata=named("orphan", "other"), subsets=[{"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 1}]}])
    slice_ports = [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"name": "any", "protocol": "TCP"}]
    endpoints = [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
            "zone": "z-1",
            "hostname": "h",
            "targetRef": to("cart-1"),
            "deprecatedTopology": {"topology.kubernetes.io/region": "r"},
        },
        {"addresses": ["10.0.0.2", "10.0.0.3"], "conditions": {"ready": False}, "nodeName": "node-9"},
        {"addresses": ["10.0.0.4"], "conditions": {}, "targetRef": {"kind": "Node", "name": "node-2"}},
    ]
    slice_labels = {"kubernetes.io/service-name": "cart", "x": "y"}
    put("endpointslices", metadata=named("cart-abc", labels=slice_labels), addressType="IPv4", ports=slice_ports, endpoints=endpoints)
    six = [{"addresses": ["fd00::2"], "conditions": {"ready": True}, "targetRef": to("cart-2")}]
    put("endpointslices", metadata=named("lone"), addressType="IPv6", ports=slice_ports[:1], endpoints=six)
    for number in (1, 2):
        at = [
            {"type": "Hostname", "address": f"node-{number}"},
            {"type": "InternalIP", "address": f"10.1.0.{number}"},
            {"type": "InternalIP", "address": f"fd00::{number}"},
        ]
        put(
            "nodes",
            metadata=named(f"node-{number}", None, labels={"zone": "z", "kubernetes.io/os": "linux"}, annotations={"n/o": "p"}),
            spec={"providerID": f"aws:///{number}"} if number == 1 else {},
            status={"addresses": at[: number + 1], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}},
        )
    put("nodes", metadata=named("lost", None), status={})
    rules = [
        {"host": "shop.example", "http": {"paths": [{"path": "/", "pathType": "Prefix"}, {"path": "", "pathType": "Prefix"}]}},
        {"host": "a.wild.example", "http": {"paths": [{"path": "/a", "pathType": "Exact"}]}},
        {"host": "a.b.wild.example"},
        {"http": {"paths": [{"path": "/any", "pathType": "Exact"}]}},
    ]
    tls = [{"hosts": ["shop.example", "*.wild.example"]}]
    put("ingresses", metadata=named("front", labels={"l": "m"}, annotations={"q/r": "s"}), spec={"ingressClassName": "nginx", "rules": rules, "tls": tls})


class Peer(Asked):
    """The real Prometheus with the same jobs."""

    def __init__(self, scene, binary, configs: list[dict], more: str):
        self.url = f"http://127.0.0.1:{scene.port()}"
        folder = scene.folder / "prometheus"
        folder.mkdir()
        listed = "".join(f"- {json.dumps(config)}\n" for config in configs)
        text = "global: {scrape_interval: 1s, scrape_timeout: 900ms}\n" + more.rstrip("\n") + "\n" + listed
        (folder / "prometheus.yml").write_text(text)
        command = [binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        scene.start("prometheus", [*command, f"--web.listen-address={self.url[7:]}"])


def expanded(scene, url: str) -> str:
    """What `mesh.discover` stands for, as it is printed for Prometheus."""
    file = scene.folder / "presets.yaml"
    file.write_text(json.dumps({"mesh": {"discover": ["ambient", "linkerd"], "api_server": url}}))
    code, text = scene.run(scene.binary, "check-config", "--expand", file)
    scene.holds("check-config --expand prints the jobs of the presets", code == 0 and "job_name: ztunnel" in text, text)
    return text


def urls(asked: Asked) -> set[tuple[str, str]]:
    """What is scraped, and with which labels."""
    return {(one["scrapeUrl"], json.dumps(one["labels"], sort_keys=True)) for one in asked.api("/api/v1/targets")["activeTargets"]}


def found(asked: Asked) -> dict[str, collections.Counter]:
    """The labels before relabelling of each job's targets, as often as they are there."""
    data = asked.api("/api/v1/targets", state="any")
    by_job = collections.defaultdict(collections.Counter)
    for target in data["activeTargets"] + data["droppedTargets"]:
        labels = target["discoveredLabels"]
        by_job[labels["job"]][json.dumps(labels, sort_keys=True)] += 1
    return dict(by_job)


def difference(ours: dict, theirs: dict) -> str:
    """The first targets that only one has, with the labels in which they differ."""
    for name in sorted(set(ours) | set(theirs)):
        more, less = ours.get(name, collections.Counter()), theirs.get(name, collections.Counter())
        if more != less:
            only = [[json.loads(one) for one in (a - b)] for a, b in ((more, less), (less, more))]
            for one in only[0]:
                same = [other for other in only[1] if other["__address__"] == one["__address__"]]
                if same:
                    wrong = {k: (one.get(k), same[0].get(k)) for k in one | same[0] if one.get(k) != same[0].get(k)}
                    return f"{name} {one['__address__']}: ours, theirs: {wrong}"
            return f"{name}: only ours {[one['__address__'] for one in only[0]]}, only theirs {[one['__address__'] for one in only[1]]}"
    return ""


def same(scene, what: str, service, peer, sign, within: float = 25, before=lambda: None) -> None:
    """Both have the same targets, and these bear the sign of what happened last. `before` runs before each look."""
    last = {}

    def probe():
        before()
        last["ours"], last["theirs"] = found(service), found(peer)
        return difference(last["ours"], last["theirs"]) or json.dumps([list(counter) for counter in last["ours"].values()])

    scene.eventually(what, probe, lambda text: text.startswith("[") and sign(text), within, 0.5)


def play(scene):
    binary = next((one for one in PEERS if one.exists()), None)
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout if binary else ""
    if "version 3" not in version:
        scene.note("no prometheus 3 found: shared/tools/peers.sh brings it")
        return
    cluster = Cluster(scene)
    fill(cluster)
    presets = expanded(scene, cluster.url)
    configs = jobs(cluster.url)
    peer = Peer(scene, binary, configs, presets)
    service = Service(scene, scrape_configs=configs, mesh={"discover": ["ambient", "linkerd"], "api_server": cluster.url}).start()
    same(scene, "all roles give the same targets with the same labels", service, peer, lambda text: "cart-1" in text)
    counts = {name: sum(counter.values()) for name, counter in sorted(found(service).items())}
    scene.note(f"targets by job: {counts}")
    scene.equal("every job has targets", {one["job_name"] for one in configs} - set(counts), set())
    scene.equal("those of the presets among them", {"istio-proxies", "istiod", "ztunnel", "linkerd-proxy"} - set(counts), set())
    scene.equal("both would scrape the same", urls(peer), urls(service))

    cluster.delete("pods", "shop", "cart-1")
    cluster.put("pods", **pod("cart-3", "10.0.0.3", "cart"))
    cluster.put("services", metadata=named("cart", labels={"app": "other"}), spec={"clusterIP": "10.96.0.1", "ports": []})
    cluster.delete("nodes", "", "node-1")
    cluster.delete("ingresses", "shop", "front")

    def touch():
        """As the controllers do; Prometheus looks at a deleted pod's addresses only then, and may look before it knows."""
        for plural, namespace, name in [key for key in cluster.objects if key[0] in ("endpoints", "endpointslices")]:
            cluster.put(plural, **cluster.objects[plural, namespace, name])

    changed = lambda text: "cart-3" in text and "uid-cart-1" not in text and "shop.example" not in text
    same(scene, "changes and deletions are followed alike", service, peer, changed, before=touch)

    cluster.cut()
    cluster.put("pods", **pod("cart-4", "10.0.0.4", "cart"))
    same(scene, "after 410 Gone both read the list again", service, peer, lambda text: "cart-4" in text, 45)
    scene.holds("it was 410", service.own("kubernetes_gone_total") > 0)

    cluster.away(True)
    scene.eventually("a cluster that is away is counted", lambda: service.own("kubernetes_failures_total"), lambda n: n > 2, 20)
    time.sleep(6)
    same(scene, "and keeps its targets", service, peer, lambda text: "cart-4" in text)
    cluster.away(False)
    cluster.put("pods", **pod("cart-5", "10.0.0.5", "cart"))
    same(scene, "when it is back both go on", service, peer, lambda text: "cart-5" in text, 60)
    service.ends_well()
