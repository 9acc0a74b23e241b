//! The blocks of `alertmanager.yml` that describe receivers, and the defaults of `global` that they take.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::post::check_url;
use super::slack::POST_MESSAGE;
use crate::http_client;
use crate::units::{PromDuration, Secret};

macro_rules! receiver_config {
    ($($kind:ident),* $(,)?) => {
        /// One receiver. Kinds that are not offered are read so that a pasted file loads, and named in a warning.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct ReceiverConfig {
            /// Unique name.
            pub name: String,
            /// HTTP endpoints that get payload version 4, or a body of your own.
            pub webhook_configs: Vec<WebhookConfig>,
            /// Slack channels, or what understands Slack's incoming webhooks.
            pub slack_configs: Vec<SlackConfig>,
            /// PagerDuty services, over Events API v2.
            pub pagerduty_configs: Vec<PagerdutyConfig>,
            /// Mail addresses.
            pub email_configs: Vec<EmailConfig>,
            $($kind: Option<IgnoredAny>,)*
        }

        impl ReceiverConfig {
            /// Keys of the kinds that this receiver configures and that are not offered.
            pub fn kinds_not_offered(&self) -> Vec<&'static str> {
                [$((self.$kind.is_some(), stringify!($kind)),)*]
                    .into_iter().filter(|(given, _)| *given).map(|(_, kind)| kind).collect()
            }
        }
    };
}

receiver_config!(
    discord_configs,
    incidentio_configs,
    jira_configs,
    mattermost_configs,
    msteams_configs,
    msteamsv2_configs,
    opsgenie_configs,
    pushover_configs,
    rocketchat_configs,
    sns_configs,
    telegram_configs,
    victorops_configs,
    webex_configs,
    wechat_configs,
);

impl Globals {
    /// What Alertmanager would refuse, whether a receiver takes it or not.
    pub(in crate::notify) fn problems(&self) -> Vec<String> {
        let slack = self.slack_api_url.as_ref().map(|url| check_url("slack_api_url", url.reveal()));
        let pagerduty = self.pagerduty_url.as_ref().map(|url| check_url("pagerduty_url", url));
        let client =
            self.http_config.as_ref().map(|client| client.validate().map_err(|error| format!("http_config: {error}")));
        let mut wrong: Vec<String> = [slack, pagerduty, client].into_iter().flatten().filter_map(Result::err).collect();
        // The address that Slack apps send to may stand beside the token: that is how it was done before there was one.
        let has_webhook = self.slack_api_url.as_ref().is_some_and(|url| url.reveal() != POST_MESSAGE);
        if self.slack_app_token.is_some() && (has_webhook || self.slack_api_url_file.is_some()) {
            wrong.push(
                "at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured"
                    .to_owned(),
            );
        }
        wrong
    }
}

/// What receivers take that do not say it themselves: keys of the block `global`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Globals {
    /// Address of Slack's incoming webhook.
    pub slack_api_url: Option<Secret>,
    /// A file that holds it.
    pub slack_api_url_file: Option<PathBuf>,
    /// A token of a Slack app, itself or in a file, which is not offered.
    #[serde(skip)]
    pub slack_app_token: Option<http_client::NotOffered>,
    /// Address of PagerDuty's Events API v2.
    pub pagerduty_url: Option<String>,
    /// TLS, authentication and proxy of receivers that have no `http_config`.
    pub http_config: Option<http_client::Config>,
    /// Mail server, `host:port`.
    pub smtp_smarthost: Option<String>,
    /// Sender of mails.
    pub smtp_from: Option<String>,
    /// Name by which the mail server is greeted.
    pub smtp_hello: Option<String>,
    /// User at the mail server.
    pub smtp_auth_username: Option<String>,
    /// Its password.
    pub smtp_auth_password: Option<Secret>,
    /// A file that holds it.
    pub smtp_auth_password_file: Option<PathBuf>,
    /// Whether mail goes out only over TLS.
    pub smtp_require_tls: Option<bool>,
    /// Certificates of the mail server.
    pub smtp_tls_config: Option<http_client::TlsConfig>,
    /// Whether TLS begins with the connection.
    pub smtp_force_implicit_tls: Option<bool>,
}

/// One HTTP endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to send. May hold a token, so it is not printed.
    pub url: Option<Secret>,
    /// A file that holds the address, read at each request.
    pub url_file: Option<PathBuf>,
    /// Whether to tell when alerts are resolved. Default true.
    pub send_resolved: bool,
    /// Most alerts in one payload, 0 for all; the rest is counted in `truncatedAlerts`.
    pub max_alerts: usize,
    /// Longest time of one attempt, 0 for the default of 10 s.
    pub timeout: PromDuration,
    /// TLS, authentication, proxy.
    pub http_config: Option<http_client::Config>,
    /// Proof that the body is ours and fresh.
    pub signature: Option<SignatureConfig>,
    /// The body in place of payload version 4: a template, or a list or mapping whose texts are templates. As JSON, in which
    /// a text that reads as another value of YAML is that; under another `content_type` a template is sent as it is.
    pub payload: Option<serde_json::Value>,
    /// How it is sent: POST, PUT or PATCH. Default POST.
    pub method: String,
    /// Type of the body. Default `application/json`.
    pub content_type: String,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            send_resolved: true,
            max_alerts: 0,
            timeout: PromDuration::default(),
            http_config: None,
            signature: None,
            payload: None,
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
        }
    }
}

/// HMAC-SHA256 over `<seconds>.<body>`, in a header `t=<seconds>,v1=<hex>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignatureConfig {
    /// A file that holds the key, read at each request; a line feed at its end does not count.
    pub secret_file: PathBuf,
    /// Name of the header. Default `X-Meshscope-Signature`.
    pub header: String,
}

impl Default for SignatureConfig {
    fn default() -> Self {
        Self { secret_file: PathBuf::new(), header: "X-Meshscope-Signature".to_owned() }
    }
}

/// One Slack channel. Texts are templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackConfig {
    /// Whether to tell when alerts are resolved. Default false, as in Alertmanager.
    pub send_resolved: bool,
    /// Address of the incoming webhook, or of `chat.postMessage`.
    pub api_url: Option<Secret>,
    /// A file that holds it, read at each request.
    pub api_url_file: Option<PathBuf>,
    /// TLS, authentication, proxy.
    pub http_config: Option<http_client::Config>,
    /// Longest time of one attempt, 0 for the default of 10 s.
    pub timeout: PromDuration,
    /// Channel or user.
    pub channel: String,
    /// Who writes.
    pub username: String,
    /// Colour of the bar.
    pub color: String,
    /// First line, at most 1024 characters.
    pub title: String,
    /// Where the first line leads.
    pub title_link: String,
    /// Text before the attachment.
    pub pretext: String,
    /// Text.
    pub text: String,
    /// Text of the message above the attachment.
    pub message_text: String,
    /// Table of the attachment.
    pub fields: Vec<SlackField>,
    /// Whether fields stand side by side.
    pub short_fields: bool,
    /// Small text at the end.
    pub footer: String,
    /// Text for notifications.
    pub fallback: String,
    /// Id for the buttons' callback.
    pub callback_id: String,
    /// Icon, as an emoji.
    pub icon_emoji: String,
    /// Icon, as an image.
    pub icon_url: String,
    /// Image below the text.
    pub image_url: String,
    /// Small image beside the text.
    pub thumb_url: String,
    /// Whether `@name` and `#channel` become links.
    pub link_names: bool,
    /// Parts that are Markdown. Default fallback, pretext, text.
    pub mrkdwn_in: Vec<String>,
    /// Buttons.
    pub actions: Vec<SlackAction>,
    /// Token of a Slack app, which is not offered.
    pub app_token: Option<Secret>,
    /// The same in a file.
    pub app_token_file: Option<PathBuf>,
    /// Address for it.
    pub app_url: Option<String>,
    /// Whether a message is changed in place of a new one; needs a Slack app, so it is not used.
    pub update_message: bool,
}

impl Default for SlackConfig {
    fn default() -> Self {
        let of = |name: &str| format!("{{{{ template \"slack.default.{name}\" . }}}}");
        Self {
            send_resolved: false,
            api_url: None,
            api_url_file: None,
            http_config: None,
            timeout: PromDuration::default(),
            channel: String::new(),
            username: of("username"),
            color: of("color"),
            title: of("title"),
            title_link: of("titlelink"),
            pretext: of("pretext"),
            text: of("text"),
            message_text: String::new(),
            fields: Vec::new(),
            short_fields: false,
            footer: of("footer"),
            fallback: of("fallback"),
            callback_id: of("callbackid"),
            icon_emoji: of("iconemoji"),
            icon_url: of("iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            mrkdwn_in: Vec::new(),
            actions: Vec::new(),
            app_token: None,
            app_token_file: None,
            app_url: None,
            update_message: false,
        }
    }
}

/// One cell of a Slack attachment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackField {
    /// Its heading.
    pub title: String,
    /// Its text.
    pub value: String,
    /// Whether it may stand beside another; else `short_fields`.
    pub short: Option<bool>,
}

/// One button of a Slack attachment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackAction {
    /// `button`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its text.
    pub text: String,
    /// Where it leads; without one, `name` is told to the callback.
    pub url: String,
    /// Its looks.
    pub style: String,
    /// Name for the callback.
    pub name: String,
    /// Value for the callback.
    pub value: String,
    /// A question before it acts. As in Alertmanager a button with a `url` has none, nor name nor value.
    pub confirm: Option<SlackConfirm>,
}

/// A question before a button acts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackConfirm {
    /// The question.
    pub text: String,
    /// Its heading.
    pub title: String,
    /// Word for yes.
    pub ok_text: String,
    /// Word for no.
    pub dismiss_text: String,
}

/// One PagerDuty service. Texts are templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerdutyConfig {
    /// Whether to tell when alerts are resolved. Default true.
    pub send_resolved: bool,
    /// Key of the Events API v2 integration.
    pub routing_key: Option<Secret>,
    /// A file that holds it, read at each request.
    pub routing_key_file: Option<PathBuf>,
    /// Key of Events API v1, which is not offered.
    pub service_key: Option<Secret>,
    /// The same in a file.
    pub service_key_file: Option<PathBuf>,
    /// Address of the Events API v2.
    pub url: Option<String>,
    /// TLS, authentication, proxy.
    pub http_config: Option<http_client::Config>,
    /// Longest time of one attempt, 0 for the default of 10 s.
    pub timeout: PromDuration,
    /// Who tells.
    pub client: String,
    /// Where to read more.
    pub client_url: String,
    /// Summary, at most 1024 characters.
    pub description: String,
    /// `critical`, `error`, `warning` or `info`. Default `error`.
    pub severity: String,
    /// Where it happens. Default `client`.
    pub source: String,
    /// Class of the event.
    pub class: String,
    /// What is affected.
    pub component: String,
    /// Group of what is affected.
    pub group: String,
    /// More, by name, lists and mappings too; `firing`, `resolved`, `num_firing` and `num_resolved` are there unless given.
    pub details: BTreeMap<String, serde_json::Value>,
    /// Images.
    pub images: Vec<PagerdutyImage>,
    /// Links.
    pub links: Vec<PagerdutyLink>,
}

impl Default for PagerdutyConfig {
    fn default() -> Self {
        let of = |name: &str| format!("{{{{ template \"pagerduty.default.{name}\" . }}}}");
        Self {
            send_resolved: true,
            routing_key: None,
            routing_key_file: None,
            service_key: None,
            service_key_file: None,
            url: None,
            http_config: None,
            timeout: PromDuration::default(),
            client: of("client"),
            client_url: of("clientURL"),
            description: of("description"),
            severity: String::new(),
            source: String::new(),
            class: String::new(),
            component: String::new(),
            group: String::new(),
            details: BTreeMap::new(),
            images: Vec::new(),
            links: Vec::new(),
        }
    }
}

/// An image of an incident.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerdutyImage {
    /// Its address.
    pub src: String,
    /// Its description.
    pub alt: String,
    /// Where it leads.
    pub href: String,
}

/// A link of an incident.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerdutyLink {
    /// Where it leads.
    pub href: String,
    /// Its text.
    pub text: String,
}

/// Mail to one or more addresses. Texts are templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    /// Whether to tell when alerts are resolved. Default false, as in Alertmanager.
    pub send_resolved: bool,
    /// Addresses, separated by commas.
    pub to: String,
    /// Sender.
    pub from: Option<String>,
    /// Mail server, `host:port`; port 465 speaks TLS from the start.
    pub smarthost: Option<String>,
    /// Name by which the mail server is greeted. Default `localhost`.
    pub hello: Option<String>,
    /// User at the mail server; without one nobody logs in.
    pub auth_username: Option<String>,
    /// Its password, for PLAIN and LOGIN.
    pub auth_password: Option<Secret>,
    /// A file that holds it, read at each mail.
    pub auth_password_file: Option<PathBuf>,
    /// Secret for CRAM-MD5, which is not offered.
    pub auth_secret: Option<Secret>,
    /// The same in a file.
    pub auth_secret_file: Option<PathBuf>,
    /// Identity for PLAIN; not used.
    pub auth_identity: Option<String>,
    /// Whether mail goes out only over TLS. Default true.
    pub require_tls: Option<bool>,
    /// Whether TLS begins with the connection, whatever the port.
    pub force_implicit_tls: Option<bool>,
    /// Certificates of the mail server.
    pub tls_config: Option<http_client::TlsConfig>,
    /// More headers, or others than Subject, To and From would be.
    pub headers: BTreeMap<String, String>,
    /// The mail as HTML; values are escaped.
    pub html: String,
    /// The mail as text; empty for none.
    pub text: String,
    /// Whether mails of one group stand below each other.
    pub threading: ThreadingConfig,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self {
            send_resolved: false,
            to: String::new(),
            from: None,
            smarthost: None,
            hello: None,
            auth_username: None,
            auth_password: None,
            auth_password_file: None,
            auth_secret: None,
            auth_secret_file: None,
            auth_identity: None,
            require_tls: None,
            force_implicit_tls: None,
            tls_config: None,
            headers: BTreeMap::new(),
            html: "{{ template \"email.default.html\" . }}".to_owned(),
            text: String::new(),
            threading: ThreadingConfig::default(),
        }
    }
}

/// Whether mails of one group stand below each other in a mail reader.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreadingConfig {
    /// Default false.
    pub enabled: bool,
    /// `daily` begins a new thread each day (UTC), `none` never.
    pub thread_by_date: String,
}
