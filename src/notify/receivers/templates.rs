//! Texts of notifications: Go templates over Alertmanager's data.
//!
//! In: template files, texts of the configuration, a notification. Out: texts. Pure. Invariant: what a text says is
//! checked when the configuration is read; that it runs is known when it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::core::Notification;
use super::webhook::{common, quote_meta, status_text};
use crate::gotemplate::{ALERTMANAGER, Context, Halt, Library, Struct, Template, Value};
use crate::model::{Alert, Labels, Timestamp};

/// Our own texts, under the names that Alertmanager's have.
const DEFAULTS: &str = include_str!("default.tmpl");
/// Go's zero time.
const NEVER: Timestamp = Timestamp::from_millis(-62_135_596_800_000);

/// One template file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// Its name without the folder.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Everything that texts may call.
#[derive(Clone, Debug)]
pub(in crate::notify) struct Templates(Arc<Library>);

impl Templates {
    /// Our own texts and those of the files, of which the later ones count.
    pub(in crate::notify) fn new(files: &[TemplateFile]) -> (Self, Vec<String>) {
        let mut library = Library::default();
        let mut problems = Vec::new();
        problems.extend(library.add("default.tmpl", DEFAULTS.to_owned(), &ALERTMANAGER).err());
        for file in files {
            problems.extend(library.add(&file.name, file.text.clone(), &ALERTMANAGER).err());
        }
        (Self(Arc::new(library)), problems)
    }

    /// A text of the configuration; `key` is what errors call it.
    pub(super) fn text(&self, key: &str, written: &str) -> Result<Text, String> {
        if !written.contains("{{") {
            return Ok(Text::Plain(written.to_owned()));
        }
        let template = Template::parse(key, written.to_owned(), &ALERTMANAGER)?;
        Ok(Text::Template(Arc::new(template.within(&self.0))))
    }

    /// The same, with values escaped for HTML.
    pub(super) fn html(&self, key: &str, written: &str) -> Result<Text, String> {
        let template = Template::parse(key, written.to_owned(), &ALERTMANAGER)?;
        Ok(Text::Template(Arc::new(template.within(&self.0).escaping_html())))
    }
}

/// One text, ready to run.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Plain(String),
    Template(Arc<Template>),
}

impl Text {
    /// What it says of a notification.
    pub(super) fn run(&self, about: &About) -> Result<String, String> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Template(template) => {
                let answers = BTreeMap::new();
                let context = Context { at: about.at, external_url: &about.external_url, answers: &answers };
                template.run(&context, &about.data).map_err(|halt| match halt {
                    Halt::Error(message) => message,
                    Halt::QueryNeeded(_) => "a notification cannot ask queries".to_owned(),
                })
            }
        }
    }
}

/// What a notification's texts are about.
#[derive(Clone, Debug)]
pub(in crate::notify) struct About {
    data: Value,
    at: Timestamp,
    external_url: String,
}

impl About {
    pub(in crate::notify) fn new(notification: &Notification, external_url: &str) -> Self {
        let Notification { receiver, group_labels, alerts, reason, at, .. } = notification;
        let fires = alerts.iter().any(|(_, fires)| *fires);
        let values = alerts.iter().map(|(alert, fires)| alert_value(alert, *fires)).collect();
        let fields = vec![
            ("Receiver", Value::text(&quote_meta(receiver))),
            ("Status", Value::text(status_text(fires))),
            ("Alerts", Value::Named("template.Alerts", values)),
            ("NotificationReason", Value::text(reason)),
            ("GroupLabels", Value::Kv(group_labels.clone())),
            ("CommonLabels", Value::Kv(common(alerts.iter().map(|(alert, _)| &alert.labels)))),
            ("CommonAnnotations", Value::Kv(common(alerts.iter().map(|(alert, _)| &alert.annotations)))),
            ("ExternalURL", Value::text(external_url)),
        ];
        let data = Value::Struct(Arc::new(Struct { type_name: "*template.Data", fields }));
        Self { data, at: *at, external_url: external_url.to_owned() }
    }
}

fn alert_value(alert: &Alert, fires: bool) -> Value {
    let time = |at| Value::Zoned(at, chrono_tz::Tz::UTC);
    let labels = |labels: &Labels| Value::Kv(labels.clone());
    let fields = vec![
        ("Status", Value::text(status_text(fires))),
        ("Labels", labels(&alert.labels)),
        ("Annotations", labels(&alert.annotations)),
        ("StartsAt", time(alert.fired_at.unwrap_or(alert.active_at))),
        ("EndsAt", time(if fires { NEVER } else { alert.ends_at() })),
        ("GeneratorURL", Value::text(&alert.generator_url)),
        ("Fingerprint", Value::text(&format!("{:016x}", alert.labels.fingerprint()))),
    ];
    Value::Struct(Arc::new(Struct { type_name: "template.Alert", fields }))
}
