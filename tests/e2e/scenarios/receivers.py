"""Slack, PagerDuty, mail and webhooks with bodies of their own: what arrives is what Alertmanager sends, field by field,
for the same alerts and the same alertmanager.yml.

The peer must be of version 0.30 or newer: ALERTMANAGER_BINARY names it.
"""

import email
import email.policy
import json
import os
import pathlib
import shutil
import socket
import threading
import time

from harness import fetch
from service import Service

PEERS = [os.environ.get("ALERTMANAGER_BINARY"), shutil.which("prometheus-alertmanager")]
EXTERNAL_URL = "http://alerts.example.org/am"

# The texts that both have as their own are worded differently on purpose; everything built on them is compared. Debian's
# 0.33 lacks the colour, and with it every text after it.
TEMPLATES = """
{{ define "__alertmanager" }}Mesh{{ end }}
{{ define "__alertmanagerURL" }}{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}{{ end }}
{{ define "slack.default.color" }}{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}{{ end }}
{{ define "slack.default.text" }}{{ range .Alerts }}{{ .Status }} {{ .Annotations.summary }}
{{ end }}{{ end }}
{{ define "slack.default.fallback" }}{{ template "slack.default.title" . }} | {{ .CommonLabels.severity }}{{ end }}
{{ define "pagerduty.default.instances" }}{{ range . }}{{ .Labels.instance }};{{ end }}{{ end }}
{{ define "email.default.html" }}<html><body>{{ range .Alerts }}<p title="{{ .Labels.team }}">{{ .Annotations.summary }}
<a href="{{ .GeneratorURL }}">rule</a> {{ .Labels.instance | title | safeHtml }}</p>{{ end }}</body></html>{{ end }}
{{ define "list" }}{{ range .Alerts.Firing }}{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }},{{ end }}|{{ end }}{{ end }}
"""


class Inbox:
    """Everything that comes over HTTP and SMTP."""

    def __init__(self, scene):
        self.requests, self.mails = [], []
        self.url = f"http://127.0.0.1:{scene.serve(self.take)}"
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.smtp = self.socket.getsockname()[1]
        scene.at_end.callback(self.socket.close)
        threading.Thread(target=self.listen, daemon=True).start()

    def take(self, method, path, body, headers):
        self.requests.append((path, method, headers.get("Content-Type"), body.decode()))
        if path.startswith("/slack"):
            return 200, "text/plain", b"ok"
        return 202, "application/json", b'{"status":"success"}'

    def listen(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.speak, args=(client,), daemon=True).start()

    def speak(self, client):
        """As much of SMTP (RFC 5321) as a sender needs."""
        lines = client.makefile("rb")
        say = lambda text: client.sendall(text.encode() + b"\r\n")
        say("220 test")
        sender, to = "", []
        while line := lines.readline().decode().strip():
            word = line.upper()
            if word.startswith("EHLO"):
                say("250-test\r\n250 8BITMIME")
            elif word.startswith("MAIL FROM:"):
                sender = line[10:].split(">")[0].strip("< ")
                say("250 ok")
            elif word.startswith("RCPT TO:"):
                to.append(line[8:].split(">")[0].strip("< "))
                say("250 ok")
            elif word == "DATA":
                say("354 go on")
                data = b""
                while not data.endswith(b"\r\n.\r\n"):
                    data += lines.readline()
                self.mails.append((sender, to, data[:-3]))
                sender, to = "", []
                say("250 ok")
            elif word == "QUIT":
                say("221 bye")
                break
            else:
                say("250 ok")
        client.close()


def configuration(scene, inbox):
    key = scene.folder / "routing.key"
    key.write_text("from-a-file\n")
    templates = scene.folder / "texts.tmpl"
    templates.write_text(TEMPLATES)
    slack = {
        "channel": "#ops-{{ .CommonLabels.severity }}",
        "send_resolved": True,
        "color": '{{ if eq .Status "firing" }}{{ if eq .CommonLabels.severity "page" }}#ff0000{{ else }}warning{{ end }}{{ else }}good{{ end }}',
        "pretext": "{{ .GroupLabels.SortedPairs.Values | join \"/\" }}",
        "fields": [
            {"title": "Who", "value": "{{ .CommonLabels.team }}"},
            {"title": "n", "value": "{{ len .Alerts }}", "short": True},
        ],
        "short_fields": False,
        "actions": [
            {
                "type": "button",
                "text": "Runbook {{ .Status }}",
                "url": "{{ (index .Alerts 0).Annotations.runbook }}",
                "style": "danger",
                "confirm": {"title": "Sure?", "text": "{{ .Status }}", "ok_text": "Yes", "dismiss_text": "No"},
            },
            {"type": "button", "text": "Ack", "name": "ack", "value": "{{ .GroupLabels.alertname }}"},
        ],
        "footer": "{{ .Receiver }}",
        "icon_emoji": ":fire:",
        "image_url": "http://i/{{ .Status }}.png",
        "thumb_url": "http://t",
        "callback_id": "cb",
        "link_names": True,
        "mrkdwn_in": ["text"],
    }
    pagerduty = {
        "routing_key": "a-key",
        "url": f"{inbox.url}/pagerduty",
        "severity": "{{ .CommonLabels.severity }}",
        "class": "{{ .CommonLabels.alertname }}",
        "component": "c",
        "group": "g",
        "source": "{{ .CommonLabels.job }}",
        "details": {
            "firing": '{{ template "pagerduty.default.instances" .Alerts.Firing }}',
            "list": '{{ template "list" . }}',
            "number": "{{ len .Alerts }}",
            "json": "{{ .CommonLabels | toJson }}",
            "said": "yes",
            "text": "a: b: c",
        },
        "images": [{"src": "http://i", "alt": "{{ .Status }}", "href": "http://h"}, {"src": "", "alt": "none"}],
        "links": [{"href": "http://l/{{ .Status }}", "text": "t"}],
    }
    payload = {
        # `[FIRING:2] Errors …` would be `["FIRING:2"]` there: its YAML reads no further. Ours stays a text.
        "message": "{{ .CommonLabels.alertname }} of {{ .CommonLabels.job }}",
        "alias": "{{ .GroupLabels.alertname }}",
        "tags": ["{{ .CommonLabels.severity }}", "1", "off", {"deep": "{{ .CommonLabels.SortedPairs.Names | toJson }}"}],
        "{{ .Status }}_key": "{{ len .Alerts.Firing }}",
        "priority": '{{ if eq .CommonLabels.severity "page" }}P1{{ else }}P3{{ end }}',
        "nothing": None,
        "ratio": 1.5,
        "details": "{{ .CommonAnnotations | toJson }}",
    }
    mail = {
        "to": "ops@example.org, Night Shift <night@example.org>",
        "send_resolved": True,
        "require_tls": False,
        "text": "{{ range .Alerts }}{{ .Annotations.summary }} ä\n{{ end }}",
        "headers": {"X-Team": "{{ .CommonLabels.team }}", "Reply-To": "noreply@example.org"},
    }
    receivers = [
        {"name": "slack", "slack_configs": [slack, {"send_resolved": False, "api_url": f"{inbox.url}/slack/plain"}]},
        {"name": "pager", "pagerduty_configs": [pagerduty, {"routing_key_file": str(key), "url": f"{inbox.url}/pagerduty/plain"}]},
        {
            "name": "opsgenie",
            "webhook_configs": [
                {"url": f"{inbox.url}/genie/map", "payload": payload},
                {"url": f"{inbox.url}/genie/text", "payload": '{"a": {{ .Status | toJson }}, "b": [1, "2"]}'},
                {"url": f"{inbox.url}/genie/plain", "payload": "it is {{ .Status }}"},
            ],
        },
        {"name": "mail", "email_configs": [mail, {"to": "plain@example.org", "require_tls": False}]},
    ]
    names = [receiver["name"] for receiver in receivers]
    return {
        "global": {
            "smtp_smarthost": f"127.0.0.1:{inbox.smtp}",
            "smtp_from": "Mesh <mesh@example.org>",
            "smtp_hello": "mesh.example.org",
            "slack_api_url": f"{inbox.url}/slack",
        },
        "templates": [str(templates)],
        "route": {
            "receiver": "slack",
            "group_by": ["alertname", "job"],
            "group_wait": "1s",
            "group_interval": "3s",
            "repeat_interval": "1h",
            "routes": [{"receiver": name, "matchers": ["alertname!=nobody"], "continue": True} for name in names],
        },
        "receivers": receivers,
    }


def alerts(began, ended=None):
    of = lambda name, severity, instance, **more: {
        "labels": {"alertname": name, "severity": severity, "instance": instance, "job": "cart", "team": 'ü "q" <b>'},
        "annotations": {"summary": f"<{name}> on {instance} & more", "runbook": "http://r/?a=1&b=2"} | more,
        "startsAt": began,
        "generatorURL": "http://p/graph?g0.expr=up%3D%3D0&g0.tab=1",
    } | ({"endsAt": ended} if ended else {})
    return [of("Errors", "page", "b:1"), of("Errors", "page", "a:1"), of("Slow", "info", "c:1", text="x" * 1500)]


def instant(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def play(scene):
    peer = next((p for p in map(pathlib.Path, filter(None, PEERS)) if p.exists() and is_new(scene, p)), None)
    ours, theirs = Inbox(scene), Inbox(scene)
    told = configuration(scene, ours)
    service = Service(scene)
    # As in the file that both read, but for our own address, which the peer gets as an option.
    service.config |= told | {"global": service.config["global"] | told["global"]}
    service.config["web"] |= {"external_url": EXTERNAL_URL}
    service.start()
    sides = [("ours", f"{service.url}/alertmanager", ours)]
    if peer:
        sides.append(("theirs", start_peer(scene, peer, configuration(scene, theirs)), theirs))
    else:
        scene.note(f"no Alertmanager of 0.30 or newer to compare with: {PEERS}")
    began = instant(time.time())
    for state, ended in [("firing", None), ("resolved", "now")]:
        marks = [(len(inbox.requests), len(inbox.mails)) for _, _, inbox in sides]
        for name, url, _ in sides:
            sent = alerts(began, instant(time.time()) if ended else None)
            fetch(f"{url}/api/v2/alerts", json.dumps(sent).encode(), {"Content-Type": "application/json"})
        # Two groups: of each kind two integrations, three webhooks; not all hear of what is resolved.
        wanted = (14, 4) if state == "firing" else (12, 2)
        for (name, _, inbox), (requests, mails) in zip(sides, marks):
            count = lambda: (len(inbox.requests) - requests, len(inbox.mails) - mails)
            scene.eventually(f"{name}: all are told that it is {state}", count, lambda got: got >= wanted, 20)
            scene.equal(f"{name}: and nobody twice", wanted, count())
        if peer:
            compare(scene, state, sides, marks)
    service.ends_well()


def is_new(scene, peer):
    version = scene.run(peer, "--version")[1].split()[2]
    return tuple(int(part) for part in version.split(".")[:2]) >= (0, 30)


def start_peer(scene, peer, config):
    file, port = scene.folder / "alertmanager.yml", scene.port()
    file.write_text(json.dumps(config))
    url = f"http://127.0.0.1:{port}"
    options = ["--cluster.listen-address=", "--log.level=warn", f"--storage.path={scene.folder / 'peer'}"]
    options += [f"--web.external-url={EXTERNAL_URL}", "--web.route-prefix=/"]
    scene.start("peer", [peer, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", *options])
    scene.eventually("the peer is ready", lambda: fetch(f"{url}/-/ready"), lambda text: text == "OK", 30)
    return url


def compare(scene, state, sides, marks):
    (_, _, ours), (_, _, theirs) = sides
    bodies = [by_key(inbox.requests[mark[0] :]) for (_, _, inbox), mark in zip(sides, marks)]
    for key in sorted(bodies[0].keys() | bodies[1].keys()):
        same(scene, f"{state} {' '.join(key)}", bodies[1].get(key), bodies[0].get(key))
    mails = [mails_by_key(inbox.mails[mark[1] :]) for (_, _, inbox), mark in zip(sides, marks)]
    for key in sorted(mails[0].keys() | mails[1].keys()):
        same(scene, f"{state} mail {' '.join(key)}", mails[1].get(key), mails[0].get(key))


def same(scene, what, theirs, ours):
    theirs, ours = flat(theirs), flat(ours)
    differs = {key: (theirs.get(key), ours.get(key)) for key in theirs.keys() | ours if theirs.get(key) != ours.get(key)}
    differs = "\n            ".join(f"{key}: theirs {pair[0]!r}, ours {pair[1]!r}" for key, pair in sorted(differs.items()))
    scene.holds(f"{what}: all {len(theirs)} fields", theirs and not differs, differs)


def flat(value, path=""):
    """Every field of a body by its path."""
    if isinstance(value, dict) and value:
        return {key: one for name, inner in value.items() for key, one in flat(inner, f"{path}.{name}").items()}
    if isinstance(value, list) and value:
        return {key: one for at, inner in enumerate(value) for key, one in flat(inner, f"{path}[{at}]").items()}
    return {} if value is None and not path else {path: value}


def by_key(requests):
    found = {}
    for path, method, kind, text in requests:
        body = json.loads(text)
        # Which group it is: the name of its alert is in every body.
        group = "Slow" if "Slow" in text else "Errors"
        if path == "/genie/text" or path == "/genie/plain":
            group = str(sum(1 for key in found if key[0] == path))
        found[(path, group)] = {"method": method, "type": kind, "body": normal(body), "end": text[-1:]}
    return found


def normal(body):
    """Without what differs by nature: when alerts began and ended. A text that is JSON is compared as such."""
    if isinstance(body, dict):
        return {key: "then" if key in ("startsAt", "endsAt") else normal(value) for key, value in body.items()}
    if isinstance(body, list):
        return [normal(value) for value in body]
    return body


def mails_by_key(mails):
    found = {}
    for sender, to, data in mails:
        message = email.message_from_bytes(data, policy=email.policy.default)
        # What each makes of its own: ids, the time, the border between parts.
        own = ("message-id", "date", "content-type", "mime-version", "x-meshscope-group", "content-transfer-encoding")
        headers = {name.lower(): str(value) for name, value in message.items() if name.lower() not in own}
        parts = [
            {"type": part.get_content_type(), "charset": part.get_content_charset(), "text": part.get_content().replace("\r\n", "\n").rstrip("\n")}
            for part in message.walk()
            if not part.is_multipart()
        ]
        group = "Slow" if "Slow" in data.decode(errors="replace") else "Errors"
        found[(to[0], group)] = {
            "from": sender,
            "to": sorted(to),
            "headers": headers,
            "kind": message.get_content_type(),
            "has id": bool(message["Message-Id"]),
            "has date": bool(message["Date"]),
            "parts": parts,
        }
    return found
