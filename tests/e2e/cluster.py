"""A Kubernetes API server of the tests' own: objects in memory, lists in pages, watches with bookmarks, 410 Gone."""

import contextlib
import http.server
import json
import threading
import time
import urllib.parse

KINDS = {
    "pods": "Pod",
    "services": "Service",
    "endpoints": "Endpoints",
    "endpointslices": "EndpointSlice",
    "nodes": "Node",
    "ingresses": "Ingress",
}


def selected(thing: dict, selector: str) -> bool:
    """Whether an object has the labels of an equality selector."""
    labels = thing["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in (part.split("=") for part in selector.split(",") if part))


class Cluster:
    """Serves until the scenario ends."""

    def __init__(self, scene):
        self.version, self.oldest = 100, 0
        self.objects: dict[tuple[str, str, str], dict] = {}
        self.events: list[tuple[int, str, str, dict]] = []
        self.changed = threading.Condition()
        self.is_away = False
        self.requests: list[str] = []
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    cluster.answer(self)

            def log_message(self, *_):
                pass

        self.port = scene.port()
        self.url = f"http://127.0.0.1:{self.port}"
        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        scene.at_end.callback(server.server_close)
        scene.at_end.callback(server.shutdown)

    def put(self, plural: str, **thing) -> None:
        """Adds or changes an object."""
        with self.changed:
            meta = thing["metadata"]
            key = (plural, meta.get("namespace", ""), meta["name"])
            self.version += 1
            thing = thing | {"metadata": meta | {"resourceVersion": str(self.version)}}
            self.events.append((self.version, plural, "MODIFIED" if key in self.objects else "ADDED", thing))
            self.objects[key] = thing
            self.changed.notify_all()

    def delete(self, plural: str, namespace: str, name: str) -> None:
        with self.changed:
            self.version += 1
            thing = self.objects.pop((plural, namespace, name))
            thing = thing | {"metadata": thing["metadata"] | {"resourceVersion": str(self.version)}}
            self.events.append((self.version, plural, "DELETED", thing))
            self.changed.notify_all()

    def cut(self) -> None:
        """Ends all watches, and forgets what happened: who goes on from before hears 410 Gone."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.events.clear()
            self.changed.notify_all()

    def away(self, is_away: bool) -> None:
        """Breaks off every connection until told otherwise."""
        with self.changed:
            self.is_away = is_away
            self.changed.notify_all()

    def answer(self, request) -> None:
        url = urllib.parse.urlsplit(request.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        plural = parts[-1]
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else None
        self.requests.append(request.path)
        if self.is_away:
            request.close_connection = True
            request.connection.close()
        elif plural not in KINDS:
            self.refuse(request, 404, "NotFound", "the server could not find the requested resource")
        elif "sendInitialEvents" in query:
            self.refuse(request, 422, "Invalid", "sendInitialEvents is forbidden")
        elif query.get("watch") in ("true", "1"):
            self.watch(request, plural, namespace, query)
        else:
            self.list(request, plural, namespace, query)

    def refuse(self, request, code: int, reason: str, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        self.send(request, code, status | {"reason": reason, "message": message})

    def send(self, request, code: int, thing: dict) -> None:
        body = json.dumps(thing).encode()
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def list(self, request, plural: str, namespace: str | None, query: dict) -> None:
        with self.changed:
            found = [
                thing
                for (kind, where, _), thing in sorted(self.objects.items())
                if kind == plural and namespace in (None, where) and selected(thing, query.get("labelSelector", ""))
            ]
            version = self.version
        begin, limit = int(query.get("continue", 0)), int(query.get("limit") or 0) or len(found) + 1
        meta = {"resourceVersion": str(version)}
        if begin + limit < len(found):
            meta["continue"] = str(begin + limit)
        group = request.path.strip("/").split("/")
        version = "v1" if group[0] == "api" else f"{group[1]}/{group[2]}"
        items = found[begin : begin + limit]
        self.send(request, 200, {"kind": KINDS[plural] + "List", "apiVersion": version, "metadata": meta, "items": items})

    def watch(self, request, plural: str, namespace: str | None, query: dict) -> None:
        after = int(query.get("resourceVersion") or 0)
        ends = time.monotonic() + float(query.get("timeoutSeconds", 300))
        selector = query.get("labelSelector", "")
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()

        def say(kind: str, thing: dict) -> None:
            line = json.dumps({"type": kind, "object": thing}).encode() + b"\n"
            request.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            request.wfile.flush()

        group = request.path.strip("/").split("/")
        version = "v1" if group[0] == "api" else f"{group[1]}/{group[2]}"
        typed = {"kind": KINDS[plural], "apiVersion": version}
        while time.monotonic() < ends:
            with self.changed:
                if after < self.oldest:
                    break
                fresh = [event for event in self.events if event[0] > after]
                if not fresh:
                    self.changed.wait(1)
                if self.is_away:
                    request.close_connection = True
                    return
            for at, kind, what, thing in fresh:
                after = at
                if kind == plural and namespace in (None, thing["metadata"].get("namespace")) and selected(thing, selector):
                    say(what, typed | thing)
            if not fresh:
                say("BOOKMARK", typed | {"metadata": {"resourceVersion": str(after)}})
        if after < self.oldest:
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
            say("ERROR", gone | {"message": f"too old resource version: {after}"})
        request.wfile.write(b"0\r\n\r\n")
