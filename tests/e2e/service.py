"""meshscope under test: started on a configuration, asked over HTTP, stopped or killed."""

import contextlib
import json
import os
import pathlib
import signal
import time
import urllib.parse

from harness import Answer, Scene, fetch, stop


class Asked:
    """What can be asked of a running meshscope at `url`."""

    url: str

    def page(self, path: str, **headers: str) -> str:
        return fetch(self.url + path, headers=headers)

    def api(self, path: str, **params):
        """The `data` of an API's answer; lists are given as repeated parameters."""
        answer = json.loads(fetch(f"{self.url}{path}?{urllib.parse.urlencode(params, doseq=True)}"))
        return answer["data"]

    def query(self, expr: str, **params) -> list[tuple[dict, float]]:
        """An instant vector."""
        data = self.api("/api/v1/query", query=expr, **params)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def number(self, expr: str, **params) -> float:
        """The only sample of an instant vector; 0 when it is empty."""
        samples = self.query(expr, **params)
        return samples[0][1] if samples else 0.0

    def samples(self, expr: str, **params) -> dict[str, list[tuple[float, float]]]:
        """The samples of a range vector, by instance."""
        data = self.api("/api/v1/query", query=expr, **params)
        return {
            one["metric"].get("instance", ""): [(at, float(value)) for at, value in one["values"]]
            for one in data["result"]
        }

    def own(self, name: str) -> float:
        """One of its own metrics; of a family with labels the sum, or the point that is written out with its label."""
        points = [line.rsplit(" ", 1) for line in self.page("/metrics").splitlines() if not line.startswith("#")]
        values = [float(value) for point, value in points if f"meshscope_{name}" in (point, point.split("{")[0])]
        if not values:
            raise LookupError(f"/metrics has no meshscope_{name}")
        return sum(values)

    def edges(self, **params) -> set[tuple[str, str]]:
        """Names of callers and called in the service graph."""
        graph = self.api("/api/mesh/v1/graph", **params)
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        return {(names[edge["source"]], names[edge["target"]]) for edge in graph["edges"]}


class Service(Asked):
    """`meshscope serve` with a private PostgreSQL in the scenario's folder."""

    def __init__(self, scene: Scene, **config):
        self.scene = scene
        self.folder: pathlib.Path = scene.folder / "database"
        self.web, self.grpc, self.http = (f"127.0.0.1:{scene.port()}" for _ in range(3))
        self.url = f"http://{self.web}"
        self.config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"},
            "web": {"listen": self.web},
            "otlp": {"grpc_listen": self.grpc, "http_listen": self.http},
            "traces": {"metrics_interval": "1s"},
            "storage": {"path": str(self.folder)},
        } | config
        self.file = scene.folder / "meshscope.yaml"
        self.process = None

    def start(self) -> "Service":
        # JSON is YAML.
        self.file.write_text(json.dumps(self.config, indent=1))
        command = [self.scene.binary, "serve", "--config", self.file]
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        began = time.monotonic()
        self.process = self.scene.start("meshscope", command, env=environment)
        while time.monotonic() - began < 60:
            with contextlib.suppress(OSError, Answer):
                self.page("/-/healthy")
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        log = (self.scene.folder / "meshscope.log").read_text()
        raise RuntimeError(f"meshscope does not answer; the end of its log:\n{log[-3000:]}")

    def stop(self) -> int:
        return stop(self.process)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def postgres(self) -> int:
        """Process id of the private server."""
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def ends_well(self) -> None:
        self.scene.equal("meshscope ends with exit code 0 on SIGTERM", 0, self.stop())
        log = (self.scene.folder / "meshscope.log").read_text()
        self.scene.holds("its log holds no panic", "panicked" not in log, log[-1500:])


def job(name: str, *targets: str, **more) -> dict:
    """One entry of `scrape_configs`."""
    return {"job_name": name, "static_configs": [{"targets": list(targets)}]} | more
