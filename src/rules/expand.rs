//! The texts of alerting rules: labels and annotations with `$labels`, `$value` and queries in them.
//!
//! In: a rule's texts, one sample of its result. Out: expanded texts. Invariant: expanding never fails; an error becomes
//! the text, as in Prometheus, so that the alert is told all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::query::Querier;
use crate::gotemplate::{Context, Halt, PROMETHEUS, SAMPLE, Struct, Template, Value};
use crate::model::{Labels, Timestamp};

/// What Prometheus puts before every text. Error positions count it.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                       {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// Most different queries of one text.
const QUERIES_MAX: usize = 100;

/// One text of an alerting rule.
#[derive(Debug)]
pub enum Text {
    /// Nothing to expand.
    Plain(String),
    /// A template.
    Template {
        /// As written.
        written: String,
        /// Its name in error texts, `__alert_Name`.
        name: String,
        /// Parsed, prelude and all.
        template: Box<Template>,
    },
}

impl Text {
    /// Parses a text of the alert `alert`.
    ///
    /// # Errors
    /// Go's parse error.
    pub fn parse(alert: &str, written: &str) -> Result<Self, String> {
        if !written.contains("{{") {
            return Ok(Self::Plain(written.to_owned()));
        }
        let name = format!("__alert_{alert}");
        let template = Box::new(Template::parse(&name, format!("{PRELUDE}{written}"), &PROMETHEUS)?);
        Ok(Self::Template { written: written.to_owned(), name, template })
    }

    /// As the rule file has it.
    pub fn written(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Template { written: text, .. } => text,
        }
    }

    /// The text for one sample, and whether it failed.
    pub async fn expand(&self, about: &About<'_>, querier: &Querier<'_>) -> (String, bool) {
        let (name, template) = match self {
            Self::Plain(text) => return (text.clone(), false),
            Self::Template { name, template, .. } => (name, template),
        };
        let data = about.data();
        let mut answers = BTreeMap::new();
        loop {
            let context = Context { at: about.at, external_url: about.external_url, answers: &answers };
            let message = match template.run(&context, &data) {
                Ok(text) => return (text, false),
                Err(Halt::QueryNeeded(query)) if answers.len() < QUERIES_MAX => {
                    let answer = querier.text(&query, about.at).await.map(|samples| {
                        Value::List(
                            samples.into_iter().map(|sample| sample_value(sample.labels, sample.value)).collect(),
                        )
                    });
                    answers.insert(query, answer);
                    continue;
                }
                Err(Halt::QueryNeeded(_)) => format!("template: {name}: more than {QUERIES_MAX} queries"),
                Err(Halt::Error(message)) => message,
            };
            return (format!("<error expanding template: error executing template {name}: {message}>"), true);
        }
    }
}

/// What a text is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Labels of the sample, `__name__` among them.
    pub labels: &'a Labels,
    /// Its value.
    pub value: f64,
    /// The time of the evaluation.
    pub at: Timestamp,
    /// `global.external_labels`.
    pub external_labels: &'a Labels,
    /// Our own address.
    pub external_url: &'a str,
}

impl About<'_> {
    fn data(&self) -> Value {
        Value::Struct(Arc::new(Struct {
            type_name: "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }",
            fields: vec![
                ("Labels", Value::Labels(self.labels.clone())),
                ("ExternalLabels", Value::Labels(self.external_labels.clone())),
                ("ExternalURL", Value::text(self.external_url)),
                ("Value", Value::Float(self.value)),
            ],
        }))
    }
}

fn sample_value(labels: Labels, value: f64) -> Value {
    let fields = vec![("Labels", Value::Labels(labels)), ("Value", Value::Float(value))];
    Value::Struct(Arc::new(Struct { type_name: SAMPLE, fields }))
}

#[cfg(test)]
mod tests;
