"""What every scenario stands on: checks that are printed as they are made, free ports, processes that are always stopped,
HTTP, and small servers that play the outside world."""

import contextlib
import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

# Outside the kernel's range of ephemeral ports, so that no outgoing connection takes one between the look and the use.
# E2E_PORTS=37000-37499 takes others.
FIRST, _, LAST = os.environ.get("E2E_PORTS", "").partition("-")
PORTS = itertools.cycle([*range(int(FIRST), int(LAST) + 1)] if FIRST else [*range(7200, 7300), *range(4500, 4600)])


class Scene:
    """One scenario at play: its folder, its checks, and what must be stopped when it ends."""

    def __init__(self, name: str, binary: pathlib.Path, root: pathlib.Path):
        self.binary, self.root = binary, root
        self.passed = self.failed = 0
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"meshscope-e2e-{name}-"))
        # The private PostgreSQL drops from root to a user who must be able to enter.
        self.folder.chmod(0o755)
        self.at_end = contextlib.ExitStack()

    def holds(self, what: str, good: bool, got: object = "") -> bool:
        """Records and prints a check."""
        if good:
            self.passed += 1
            print(f"  ok      {what}", flush=True)
        else:
            self.failed += 1
            print(f"  FAILED  {what}\n          got {short(got)}", flush=True)
        return bool(good)

    def equal(self, what: str, expected: object, got: object) -> bool:
        if expected == got:
            return self.holds(what, True)
        return self.holds(what, False, f"{short(got)}\n          expected {short(expected)}")

    def eventually(self, what: str, probe, good, within: float, pause: float = 0.25):
        """Asks `probe` until `good` says yes of the answer or `within` seconds are over; the last answer."""
        began, got = time.monotonic(), None
        while True:
            try:
                got = probe()
                done = good(got)
            except (OSError, LookupError, ValueError, Answer) as error:
                got, done = error, False
            if done or time.monotonic() - began > within:
                break
            time.sleep(pause)
        self.holds(f"{what} (after {time.monotonic() - began:.1f} s of {within:.0f})", done, got)
        return got

    def note(self, text: str) -> None:
        print(f"  note    {text}", flush=True)

    def port(self) -> int:
        for port in itertools.islice(PORTS, 200):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    return port
        raise OSError("no free port in 7200-7299 and 4500-4599, or those of E2E_PORTS")

    def start(self, name: str, command: list, **options) -> subprocess.Popen:
        """Starts a process in a session of its own; its output goes to NAME.log, and it ends with the scenario."""
        with open(self.folder / f"{name}.log", "ab") as log:
            options = {"stdout": log, "stderr": log} | options
            process = subprocess.Popen([str(part) for part in command], start_new_session=True, **options)
        self.at_end.callback(stop, process)
        return process

    def run(self, *command, within: float = 120, **options) -> tuple[int, str]:
        """Runs a command to its end: its exit code and all it printed."""
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within,
            **options,
        )
        return done.returncode, done.stdout

    def serve(self, answer) -> int:
        """Serves HTTP until the scenario ends; `answer(method, path, body, headers)` gives status, type and body. The port."""
        port = self.port()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler(answer))
        server.daemon_threads = True
        # A killed client resets its connections.
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.at_end.callback(server.server_close)
        self.at_end.callback(server.shutdown)
        return port


class Webhook:
    """A receiver that keeps every body it is sent."""

    def __init__(self, scene: Scene):
        self.bodies: list[dict] = []
        self.port = scene.serve(self.take)
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def take(self, _method, path, body, _headers):
        self.bodies.append(json.loads(body) | {"at": time.time(), "path": path})
        return 200, "text/plain", b""

    def of(self, alert: str) -> list[dict]:
        return [body for body in self.bodies if body["groupLabels"].get("alertname") == alert]


class Answer(Exception):
    """An HTTP answer that is not 2xx."""

    def __init__(self, status: int, body: str):
        super().__init__(f"{status}: {body[:400]}")
        self.status, self.body = status, body


def fetch(url: str, data: bytes | None = None, headers: dict | None = None, timeout: float = 30) -> str:
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise Answer(error.code, error.read().decode(errors="replace")) from None


def handler(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, text = answer(self.command, self.path, body, self.headers)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        do_GET = do_POST = reply

        def log_message(self, *_):
            pass

    return Handler


def stop(process: subprocess.Popen, patience: float = 60) -> int:
    """Asks a process to end, then ends it; its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode


def processes_of(folder: pathlib.Path) -> list[int]:
    """Running processes that name the folder in their command line."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in file.read_bytes() and int(file.parent.name) != os.getpid():
                found.append(int(file.parent.name))
    return found


def play(name: str, module, binary: pathlib.Path, root: pathlib.Path) -> tuple[int, int]:
    """Plays a scenario; how many checks passed and failed. Its folder stays when one failed."""
    print(f"\n{name}: {module.__doc__.splitlines()[0]}", flush=True)
    began = time.monotonic()
    scene = Scene(name, binary, root)
    try:
        with scene.at_end:
            module.play(scene)
    except Exception:
        scene.holds(f"{name} plays to its end", False, traceback.format_exc())
    left = processes_of(scene.folder)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    scene.equal("no process is left", [], left)
    if scene.failed:
        print(f"  logs and files are kept in {scene.folder}")
    else:
        shutil.rmtree(scene.folder, ignore_errors=True)
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return scene.passed, scene.failed


def short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    if "<main" in text:
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text[text.index("<main") :]))
    return text if len(text) < 1500 else f"{text[:1500]}… ({len(text)} letters)"
