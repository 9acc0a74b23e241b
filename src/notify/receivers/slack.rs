//! Slack: one message with one attachment, to an incoming webhook or to `chat.postMessage`.
//!
//! In: a notification. Out: the body as Alertmanager writes it. Slack says no with status 200 too: an incoming webhook
//! answers `ok` and nothing else, the web API JSON whose `ok` is true.

use serde::Serialize;

use super::config::{SlackAction, SlackConfig};
use super::post::{Address, Answer, Post, SendError, json_text};
use super::templates::{About, Templates, Text};
use super::{NOT_SUPPORTED, Parts, truncated};

/// Longest title (Slack's reference of legacy fields).
const TITLE_CHARS_MAX: usize = 1024;
/// Where Slack apps send, which alone can change a message.
pub(super) const POST_MESSAGE: &str = "https://slack.com/api/chat.postMessage";

/// One checked channel.
pub(in crate::notify) struct Slack {
    config: SlackConfig,
    /// In the order of [`TEXTS`].
    texts: Vec<Text>,
    fields: Vec<(Text, Text, bool)>,
    actions: Vec<Action>,
    post: Post,
}

/// Texts of a button, in the order type, text, url, style, name, value; then those of its question.
struct Action {
    texts: Vec<Text>,
    confirm: Option<Vec<Text>>,
}

const TEXTS: [&str; 15] = [
    "channel",
    "username",
    "color",
    "title",
    "title_link",
    "pretext",
    "text",
    "message_text",
    "footer",
    "fallback",
    "callback_id",
    "icon_emoji",
    "icon_url",
    "image_url",
    "thumb_url",
];

#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "String::is_empty")]
    channel: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon_emoji: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon_url: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    link_names: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    attachments: [Attachment; 1],
}

#[derive(Serialize)]
struct Attachment {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pretext: String,
    text: String,
    fallback: String,
    callback_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Button>,
    #[serde(skip_serializing_if = "String::is_empty")]
    image_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thumb_url: String,
    footer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    color: String,
    mrkdwn_in: Vec<String>,
}

#[derive(Serialize)]
struct Field {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    short: bool,
}

#[derive(Serialize)]
struct Button {
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    style: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm: Option<Confirm>,
}

#[derive(Serialize)]
struct Confirm {
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ok_text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dismiss_text: String,
}

impl Slack {
    pub(super) fn new(config: &SlackConfig, parts: &Parts<'_>) -> Result<Self, String> {
        let has_url = config.api_url.is_some() || config.api_url_file.is_some();
        let has_token = config.app_token.is_some() || config.app_token_file.is_some();
        if has_url && has_token {
            return Err("at most one of api_url/api_url_file & app_token/app_token_file must be configured".to_owned());
        }
        let address = config.api_url.as_ref().or(parts.globals.slack_api_url.as_ref().filter(|_| !has_url));
        let is_webhook = address.is_some_and(|url| url.reveal() != POST_MESSAGE);
        if config.update_message && is_webhook {
            return Err(format!("update_message can only be used with bot tokens: api_url must be {POST_MESSAGE}"));
        }
        if has_token {
            return Err(format!("app_token {NOT_SUPPORTED}; use the api_url of an incoming webhook"));
        }
        let client = config.http_config.as_ref().or(parts.globals.http_config.as_ref());
        let has_login = client.is_some_and(|client| client.authorization.is_some());
        let url = (config.api_url.clone(), config.api_url_file.clone());
        let global = (parts.globals.slack_api_url.clone(), parts.globals.slack_api_url_file.clone());
        let address = match (url, global) {
            ((None, None), _) if parts.globals.slack_app_token.is_some() && !has_login => {
                return Err(format!("global.slack_app_token {NOT_SUPPORTED}; use the api_url of an incoming webhook"));
            }
            ((None, None), (None, None)) => {
                return Err("api_url: give it here, or global.slack_api_url, or either as a file".to_owned());
            }
            ((None, None), (url, file)) => Address::new("global.slack_api_url", url, file),
            ((url, file), _) => Address::new("api_url", url, file),
        }?;
        let of = |key: &str, written: &str| parts.templates.text(key, written);
        let text = |(key, written): (&&str, &String)| of(key, written);
        let texts = TEXTS.iter().zip(written(config)).map(text).collect::<Result<_, _>>()?;
        let field = |f: &super::config::SlackField| {
            if f.title.is_empty() || f.value.is_empty() {
                return Err("fields: each needs a title and a value".to_owned());
            }
            let short = f.short.unwrap_or(config.short_fields);
            Ok((of("fields.title", &f.title)?, of("fields.value", &f.value)?, short))
        };
        Ok(Self {
            texts,
            fields: config.fields.iter().map(field).collect::<Result<_, String>>()?,
            actions: config.actions.iter().map(|a| Action::new(a, parts.templates)).collect::<Result<_, _>>()?,
            post: Post::new(address, config.http_config.as_ref(), config.timeout, parts)?,
            config: config.clone(),
        })
    }

    pub(super) fn send_resolved(&self) -> bool {
        self.config.send_resolved
    }

    pub(super) fn render(&self, about: &About) -> Result<String, String> {
        let texts = self.texts.iter().map(|text| text.run(about)).collect::<Result<Vec<_>, _>>()?;
        let of = |key: &str| TEXTS.iter().position(|k| *k == key).map_or_else(String::new, |at| texts[at].clone());
        let field = |(title, value, short): &(Text, Text, bool)| {
            Ok(Field { title: title.run(about)?, value: value.run(about)?, short: *short })
        };
        let mrkdwn_in = match self.config.mrkdwn_in.as_slice() {
            [] => ["fallback", "pretext", "text"].map(str::to_owned).to_vec(),
            given => given.to_vec(),
        };
        let attachment = Attachment {
            title: truncated(&of("title"), TITLE_CHARS_MAX),
            title_link: of("title_link"),
            pretext: of("pretext"),
            text: of("text"),
            fallback: of("fallback"),
            callback_id: of("callback_id"),
            fields: self.fields.iter().map(field).collect::<Result<_, String>>()?,
            actions: self.actions.iter().map(|action| action.run(about)).collect::<Result<_, _>>()?,
            image_url: of("image_url"),
            thumb_url: of("thumb_url"),
            footer: of("footer"),
            color: of("color"),
            mrkdwn_in,
        };
        json_text(&Message {
            channel: of("channel"),
            username: of("username"),
            icon_emoji: of("icon_emoji"),
            icon_url: of("icon_url"),
            link_names: self.config.link_names,
            text: of("message_text"),
            attachments: [attachment],
        })
    }

    pub(super) async fn send(&self, body: &str) -> Result<(), SendError> {
        let answer = self.post.json(body.to_owned()).await?;
        answer.check(&[])?;
        said_ok(&answer)
    }
}

fn said_ok(answer: &Answer) -> Result<(), SendError> {
    if !answer.is_json {
        return match answer.body.trim() {
            "ok" => Ok(()),
            other => Err(SendError::Final(format!("received an error response from Slack: {other}"))),
        };
    }
    let read: Result<serde_json::Value, _> = serde_json::from_str(&answer.body);
    match read {
        Err(error) => Err(SendError::Recoverable(format!("Slack's answer is not JSON: {error}"))),
        Ok(answer) if answer["ok"] == true => Ok(()),
        Ok(answer) => Err(SendError::Final(format!(
            "error response from Slack: {}",
            answer["error"].as_str().unwrap_or_default()
        ))),
    }
}

/// In the order of [`TEXTS`].
fn written(c: &SlackConfig) -> [&String; 15] {
    [
        &c.channel,
        &c.username,
        &c.color,
        &c.title,
        &c.title_link,
        &c.pretext,
        &c.text,
        &c.message_text,
        &c.footer,
        &c.fallback,
        &c.callback_id,
        &c.icon_emoji,
        &c.icon_url,
        &c.image_url,
        &c.thumb_url,
    ]
}

impl Action {
    fn new(action: &SlackAction, templates: &Templates) -> Result<Self, String> {
        let SlackAction { kind, text, url, style, name, value, confirm } = action;
        if kind.is_empty() || text.is_empty() {
            return Err("actions: each needs a type and a text".to_owned());
        }
        if url.is_empty() && name.is_empty() {
            return Err("actions: each needs a url or a name".to_owned());
        }
        let nothing = String::new();
        let all = |texts: Vec<&String>| texts.into_iter().map(|text| templates.text("actions", text)).collect();
        // A button that leads somewhere tells the callback nothing (Alertmanager's `SlackAction`).
        let (name, value) = if url.is_empty() { (name, value) } else { (&nothing, &nothing) };
        if confirm.as_ref().is_some_and(|question| question.text.is_empty()) {
            return Err("actions: confirm needs a text".to_owned());
        }
        let confirm = confirm.as_ref().filter(|_| url.is_empty());
        let confirm = confirm.map(|c| all(vec![&c.text, &c.title, &c.ok_text, &c.dismiss_text]));
        Ok(Self { texts: all(vec![kind, text, url, style, name, value])?, confirm: confirm.transpose()? })
    }

    fn run(&self, about: &About) -> Result<Button, String> {
        let run = |texts: &[Text]| texts.iter().map(|text| text.run(about)).collect::<Result<Vec<_>, _>>();
        let mut texts = run(&self.texts)?.into_iter();
        let mut next = || texts.next().unwrap_or_default();
        let confirm = match &self.confirm {
            None => None,
            Some(question) => {
                let mut texts = run(question)?.into_iter();
                let mut next = || texts.next().unwrap_or_default();
                Some(Confirm { text: next(), title: next(), ok_text: next(), dismiss_text: next() })
            }
        };
        let (kind, text, url, style) = (next(), next(), next(), next());
        Ok(Button { kind, text, url, style, name: next(), value: next(), confirm })
    }
}
