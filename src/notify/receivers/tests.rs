//! What each kind writes and how it takes answers, by table and over real sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::config::ReceiverConfig;
use super::*;
use crate::model::{Alert, AlertState, Labels, Timestamp};
use crate::notify::LogEntry;

fn notification(fires: bool) -> Notification {
    let at = Timestamp::from_millis(1_763_835_000_000);
    let alert = |i: &str, fires: bool| {
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", "Errors"), ("severity", "page"), ("i", i)]),
            annotations: Labels::from_pairs([("summary", "<cart> & \"co\"")]),
            state: AlertState::Firing,
            value: 1.0,
            active_at: at,
            fired_at: Some(at),
            resolved_at: (!fires).then_some(at),
            keep_firing_since: None,
            valid_until: at,
            generator_url: "http://p/graph?a=1&b=2".into(),
        };
        (alert, fires)
    };
    let group_key = "{}:{alertname=\"Errors\"}".to_owned();
    Notification {
        receiver: "ops".into(),
        integration: 0,
        kind: "slack",
        group_key: group_key.clone(),
        group_labels: Labels::from_pairs([("alertname", "Errors")]),
        alerts: vec![alert("1", fires), alert("2", false)],
        reason: "first notification",
        at,
        deadline: at,
        group: 0,
        log: LogEntry {
            group_key,
            receiver: "ops".into(),
            integration: 0,
            firing: HashSet::new(),
            resolved: HashSet::new(),
            at,
        },
    }
}

fn made(yaml: &str) -> Result<Vec<Integration>, Vec<String>> {
    made_reaching(yaml, Reach::default())
}

fn made_reaching(yaml: &str, reach: Reach) -> Result<Vec<Integration>, Vec<String>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (config, problems) = crate::yaml::decode::<ReceiverConfig>(yaml);
    assert_eq!(problems, []);
    let (templates, problems) = Templates::new(&[]);
    assert_eq!(problems, [] as [&str; 0]);
    let globals = Globals { smtp_from: Some("mesh@example.org".into()), ..Globals::default() };
    let parts = Parts { globals: &globals, templates: &templates, reach: &reach };
    let (made, problems) = Integration::of_receiver(&config.unwrap(), &parts);
    if problems.is_empty() {
        return Ok(made);
    }
    Err(problems.into_iter().map(|problem| format!("{}: {}", problem.place, problem.reason)).collect())
}

fn one(yaml: &str) -> Integration {
    made(yaml).map_err(|problems| problems.join("\n")).unwrap().remove(0)
}

fn text_of(template: &str) -> Result<String, String> {
    let text = serde_json::Value::from(template);
    one(&format!("webhook_configs: [{{url: 'http://x', payload: {text}, content_type: text/plain}}]"))
        .render(&notification(true), "http://m")
}

#[test]
fn templates_have_alertmanagers_data_and_functions() {
    for (template, expect) in [
        ("{{ .Receiver }} {{ .Status }} {{ .ExternalURL }}", "ops firing http://m"),
        ("{{ len .Alerts }} {{ .Alerts.Firing | len }} {{ .Alerts.Resolved | len }}", "2 1 1"),
        ("{{ .GroupLabels.alertname }} {{ .GroupLabels }}", "Errors alertname=Errors"),
        ("{{ .CommonLabels.Names | join \",\" }}", "alertname,severity"),
        ("{{ .CommonLabels.SortedPairs.Values | join \",\" }}", "Errors,page"),
        ("{{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \" \" }}{{ end }}", "page"),
        ("{{ .CommonLabels.Remove (stringSlice \"severity\") }}", "alertname=Errors"),
        ("{{ range .Alerts }}{{ .Labels.i }}{{ .Status }};{{ end }}", "1firing;2resolved;"),
        ("{{ (index .Alerts 0).StartsAt.Format \"15:04\" }}", "18:10"),
        ("{{ (index .Alerts 0).StartsAt | tz \"Europe/Berlin\" | date \"15:04 MST\" }}", "19:10 CET"),
        ("{{ (index .Alerts 0).EndsAt.IsZero }} {{ (index .Alerts 1).EndsAt.IsZero }}", "true false"),
        ("{{ since (index .Alerts 0).StartsAt }} {{ humanizeDuration 3661 }}", "0s 1h 1m 1s"),
        ("{{ (index .Alerts 0).StartsAt.Unix }}", "1763835000"),
        ("{{ title \"hello WORLD\" }} {{ toUpper \"a\" }} {{ trimSpace \" b \" }}", "Hello World A b"),
        ("{{ match \"^f\" .Status }} {{ reReplaceAll \"(f)i\" \"${1}u\" .Status }}", "true furing"),
        ("{{ .CommonAnnotations | toJson }}", r#"{"summary":"\u003ccart\u003e \u0026 \"co\""}"#),
        ("{{ (index .Alerts 0).Labels.missing }}{{ .CommonAnnotations.summary }}", "<cart> & \"co\""),
        ("{{ template \"slack.default.title\" . }}", "[FIRING:1] Errors (page)"),
        ("{{ dict \"a\" (list 1 \"x\") | toJson }}", r#"{"a":[1,"x"]}"#),
    ] {
        assert_eq!(text_of(template).as_deref(), Ok(expect), "{template}");
    }
    let error = text_of("{{ .Nothing }}").unwrap_err();
    assert!(error.contains("can't evaluate field Nothing in type *template.Data"), "{error}");
    let error = text_of("{{ template \"nobody\" . }}").unwrap_err();
    assert!(error.contains("template \"nobody\" not defined"), "{error}");
}

#[test]
fn files_take_the_place_of_our_own_texts() {
    let files =
        [("a.tmpl", "{{ define \"x\" }}first{{ end }}"), ("b.tmpl", "{{ define \"x\" }}{{ .Status }}{{ end }}")];
    let files = files.map(|(name, text)| templates::TemplateFile { name: name.into(), text: text.into() });
    let (templates, problems) = Templates::new(&files);
    assert_eq!(problems, [] as [&str; 0]);
    let text = templates.text("t", "{{ template \"x\" . }} {{ template \"__alertmanager\" . }}").unwrap();
    assert_eq!(text.run(&About::new(&notification(true), "http://m")).as_deref(), Ok("firing meshscope"));
    let broken = templates::TemplateFile { name: "c.tmpl".into(), text: "{{ nope }}".into() };
    assert_eq!(Templates::new(&[broken]).1, ["template: c.tmpl:1: function \"nope\" not defined"]);
}

#[test]
fn slack_and_pagerduty_write_what_alertmanager_writes() {
    let slack =
        one("slack_configs: [{api_url: 'http://x', channel: '#a', title: '{{ .Status }}', title_link: '', text: t, \
                     fallback: f, username: u, short_fields: true, fields: [{title: a, value: '{{ .Receiver }}'}], \
                     actions: [{type: button, text: b, name: n, confirm: {text: sure}}]}]");
    let body: serde_json::Value =
        serde_json::from_str(&slack.render(&notification(true), "http://m").unwrap()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"channel": "#a", "username": "u", "attachments": [{
            "title": "firing", "text": "t", "fallback": "f", "callback_id": "", "footer": "", "color": "danger",
            "fields": [{"title": "a", "value": "ops", "short": true}], "mrkdwn_in": ["fallback", "pretext", "text"],
            "actions": [{"type": "button", "text": "b", "name": "n", "confirm": {"text": "sure"}}],
        }]})
    );
    let pagerduty = one(
        "pagerduty_configs: [{routing_key: hidden, description: '{{ range .Alerts }}{{ printf \"%600d\" 1 }}{{ end }}', \
                         client: c, client_url: '', severity: critical, details: {firing: f, resolved: r, n: '[1]'}, \
                         links: [{href: 'http://y', text: t}, {text: gone}]}]",
    );
    let text = pagerduty.render(&notification(false), "http://m").unwrap();
    assert!(!text.contains("hidden"), "the key is recorded: {text}");
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["payload"]["summary"].as_str().unwrap().chars().count(), 1024);
    assert_eq!(
        (&body["event_action"], &body["links"]),
        (&"resolve".into(), &serde_json::json!([{"href": "http://y", "text": "t"}]))
    );
    let details = serde_json::json!({"firing": "f", "resolved": "r", "num_firing": 0, "num_resolved": 2, "n": [1]});
    assert_eq!(body["payload"]["custom_details"], details);
    assert_eq!(body["dedup_key"].as_str().unwrap().len(), 64);
    let large = one(
        "pagerduty_configs: [{routing_key: k, details: {x: '{{ $l := list 1 2 3 4 5 6 7 8 9 10 }}{{ range $l }}{{ range $l }}{{ range $l }}{{ printf \"%0600d\" 1 }}{{ end }}{{ end }}{{ end }}'}}]",
    );
    let text = large.render(&notification(true), "http://m").unwrap();
    assert!(text.len() < 3000 && text.contains("exceeds the maximum size"), "{} bytes", text.len());
}

#[test]
fn mistakes_name_the_block_and_the_mend() {
    let check = |yaml: &str, expect: &str| {
        let problems = made(yaml).err().unwrap_or_default();
        assert!(problems.iter().any(|problem| problem.contains(expect)), "{yaml}: {problems:?}");
    };
    check("slack_configs: [{channel: x}]", "slack_configs[0]: api_url: give it here, or global.slack_api_url");
    check(
        "slack_configs: [{api_url: 'http://x', title: '{{ nope }}'}]",
        "template: title:1: function \"nope\" not defined",
    );
    check("pagerduty_configs: [{service_key: x}]", "service_key (Events API v1) is not supported");
    check("pagerduty_configs: [{}]", "one of routing_key or routing_key_file");
    check("webhook_configs: [{url: 'http://x/{{ .Status }}'}]", "url: a template is not supported");
    check(
        "webhook_configs: [{url: 'http://x', http_config: {bearer_token: a, bearer_token_file: b}}]",
        "at most one of",
    );
    check("slack_configs: [{api_url: 'http://x', app_token: t}]", "at most one of api_url/api_url_file & app_token");
    check("slack_configs: [{api_url: 'http://x', update_message: true}]", "can only be used with bot tokens");
    let post_message = "slack_configs: [{api_url: 'https://slack.com/api/chat.postMessage', update_message: true}]";
    assert!(made(post_message).is_ok());
    check(
        "slack_configs: [{api_url: 'http://x', actions: [{type: button, text: t, url: u, confirm: {title: x}}]}]",
        "confirm needs a text",
    );
    check("email_configs: [{to: a@b.c}]", "smarthost: give it here or as global.smtp_smarthost");
    check("email_configs: [{to: a@b.c, smarthost: x}]", "has no port");
    check("webhook_configs: [{url: 'http://x', method: GET}]", "method: \"GET\" is not POST, PUT or PATCH");
    check("webhook_configs: [{url: 'http://x', signature: {}}]", "signature.secret_file must be given");
}

/// An endpoint that gives these answers in turn and keeps what it got.
async fn endpoint(answers: Vec<(u16, &'static str, &'static str)>) -> (String, Arc<Mutex<Vec<(String, String)>>>) {
    let got: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let (kept, left) = (Arc::clone(&got), Arc::new(Mutex::new(answers)));
    let handler = move |headers: axum::http::HeaderMap, body: String| async move {
        let signature = headers.get("x-meshscope-signature").map(|v| v.to_str().unwrap().to_owned());
        kept.lock().push((body, signature.unwrap_or_default()));
        let (status, kind, text) = left.lock().remove(0);
        (axum::http::StatusCode::from_u16(status).unwrap(), [("content-type", kind)], text)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(handler))).await });
    (format!("http://{address}/"), got)
}

async fn outcomes(integration: &Integration, count: usize) -> Vec<&'static str> {
    let body = integration.render(&notification(true), "http://m").unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(match integration.send(&body).await {
            Ok(()) => "ok",
            Err(SendError::Recoverable(_)) => "again",
            Err(SendError::Final(_)) => "final",
        });
    }
    found
}

#[tokio::test]
async fn answers_are_taken_as_alertmanager_takes_them() {
    let (json, text) = ("application/json", "text/plain");
    let (url, _) = endpoint(vec![
        (200, text, "ok"),
        (200, text, "no_service"),
        (200, json, r#"{"ok":true}"#),
        (200, json, r#"{"ok":false,"error":"channel_not_found"}"#),
        (200, json, "rubbish"),
        (429, text, ""),
        (500, text, ""),
    ])
    .await;
    let slack = one(&format!("slack_configs: [{{api_url: '{url}'}}]"));
    assert_eq!(outcomes(&slack, 7).await, ["ok", "final", "ok", "final", "again", "final", "again"]);
    let (url, got) = endpoint(vec![(202, json, ""), (400, json, ""), (429, json, ""), (503, json, "")]).await;
    let pagerduty = one(&format!("pagerduty_configs: [{{url: '{url}', routing_key: hidden}}]"));
    assert_eq!(outcomes(&pagerduty, 4).await, ["ok", "final", "again", "again"]);
    let body: serde_json::Value = serde_json::from_str(&got.lock()[0].0).unwrap();
    assert_eq!(body["routing_key"], "hidden");
    let (url, got) = endpoint(vec![(200, text, ""), (404, text, "")]).await;
    let secret = std::env::temp_dir().join(format!("meshscope-signature-{}", std::process::id()));
    std::fs::write(&secret, "secret\n").unwrap();
    let webhook =
        one(&format!("webhook_configs: [{{url: '{url}', signature: {{secret_file: '{}'}}}}]", secret.display()));
    assert_eq!(outcomes(&webhook, 2).await, ["ok", "final"]);
    let (body, signature) = got.lock()[0].clone();
    std::fs::remove_file(&secret).unwrap();
    let (seconds, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    assert_eq!(hex(ring::hmac::sign(&key, format!("{seconds}.{body}").as_bytes()).as_ref()), tag);
}

/// A mail server without TLS that takes one mail and keeps what was said.
async fn mail_server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::clone(&said);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        writer.write_all(b"220 fake\r\n").await.unwrap();
        let mut in_mail = false;
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match line.split(' ').next().unwrap_or_default() {
                "." => "250 taken\r\n",
                _ if in_mail => "",
                "EHLO" => "250-fake\r\n250 AUTH PLAIN LOGIN\r\n",
                "AUTH" => "235 welcome\r\n",
                "DATA" => "354 go on\r\n",
                "QUIT" => "221 bye\r\n",
                _ => "250 fine\r\n",
            };
            in_mail = (in_mail || line == "DATA") && line != ".";
            kept.lock().push(line);
            writer.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, said)
}

#[tokio::test]
async fn mail_is_escaped_threaded_and_sent() {
    let (port, said) = mail_server().await;
    let email = one(&format!(
        "email_configs: [{{to: 'Ops <a@example.org>, b@example.org', smarthost: '127.0.0.1:{port}', require_tls: false, \
         auth_username: u, auth_password: p, html: '<p>{{{{ .CommonAnnotations.summary }}}}</p>', text: '{{{{ .Status }}}}', \
         headers: {{X-Team: \"a\\nBcc: evil@example.org\"}}, threading: {{enabled: true, thread_by_date: daily}}}}]"
    ));
    let body = email.render(&notification(true), "http://m").unwrap();
    assert!(email.send(&body).await.is_ok(), "{:?}", said.lock());
    let said = said.lock().clone();
    let has = |line: &str| assert!(said.iter().any(|known| known.contains(line)), "{line} is not in {said:#?}");
    for line in [
        "MAIL FROM:<mesh@example.org>",
        "RCPT TO:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "Subject: [FIRING:1] Errors (page)",
        "From: mesh@example.org",
        "X-Team: a Bcc: evil@example.org",
        "&lt;cart&gt; &amp; &#34;co&#34;",
        "multipart/alternative",
        "References: <alert-",
    ] {
        has(line);
    }
    assert!(!said.iter().any(|line| line.starts_with("Bcc")), "a label began a header");
    let limits = crate::http_client::ReachConfig { deny: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
    let closed = made_reaching(
        &format!("email_configs: [{{to: a@b.c, smarthost: '127.0.0.1:{port}', require_tls: false}}]"),
        Reach::new("notifications", &limits),
    );
    let closed = closed.unwrap().remove(0);
    let body = closed.render(&notification(true), "http://m").unwrap();
    let said = format!("{:?}", closed.send(&body).await.unwrap_err());
    assert!(said.contains("127.0.0.1 is in security.outgoing.notifications.deny"), "{said}");
    let refused =
        one("email_configs: [{to: nobody, smarthost: '127.0.0.1:1'}]").render(&notification(true), "http://m");
    assert!(refused.unwrap_err().starts_with("to: \"nobody\""));
    let away = one("email_configs: [{to: a@b.c, smarthost: '127.0.0.1:1', require_tls: false}]");
    assert_eq!(outcomes(&away, 1).await, ["again"]);
    let default = away.render(&notification(true), "http://m").unwrap();
    assert!(default.contains("text/html"), "{default}");
}
