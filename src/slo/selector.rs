//! What an objective is about: services, edges or routes, with `*` and `?` in each part of the name.
//!
//! In: a text such as `payments/*` or `shop/web -> payments/cart`. Out: label matchers. Invariant: a part that is read
//! makes a valid PromQL matcher, whatever it holds.

use serde::Deserialize;

/// Longest part of a selector: Kubernetes' limit for names is 253.
const PART_CHARS_MAX: usize = 253;

/// One part of a name: literal, or with `*` (any text) and `?` (one character).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part(String);

/// `NAMESPACE/SERVICE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceSelector {
    pub(super) namespace: Part,
    pub(super) name: Part,
}

/// `NAMESPACE/WORKLOAD -> NAMESPACE/SERVICE`: who calls, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct EdgeSelector {
    pub(super) source: ServiceSelector,
    pub(super) destination: ServiceSelector,
}

/// `NAMESPACE/SERVICE/ROUTE`; the route may hold any character, slashes and blanks too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RouteSelector {
    pub(super) service: ServiceSelector,
    pub(super) route: Part,
}

impl Part {
    /// A part of a Kubernetes name.
    fn name(text: &str, whole: &str) -> Result<Self, String> {
        let unfit = |c: &char| !(c.is_ascii_alphanumeric() || "-_.:*?".contains(*c));
        match text.chars().find(unfit) {
            _ if text.is_empty() => Err(format!("{whole:?} has an empty part; write `*` for any")),
            Some('[' | ']' | '{' | '}') => {
                Err(format!("{whole:?}: of globs there are `*` (any text) and `?` (one character), no brackets"))
            }
            Some(c) => Err(format!("{whole:?} holds {c:?}; names are of letters, digits and -_.: with `*` and `?`")),
            None => Self::any(text, whole),
        }
    }

    /// A part that may hold any character.
    fn any(text: &str, whole: &str) -> Result<Self, String> {
        match text {
            "" => Err(format!("{whole:?} has an empty part; write `*` for any")),
            _ if text.chars().any(char::is_control) => Err(format!("{whole:?} holds a control character")),
            _ if text.chars().count() > PART_CHARS_MAX => {
                Err(format!("a part of the selector has more than {PART_CHARS_MAX} characters"))
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// As written.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Whether it stands for any text somewhere.
    pub(super) fn has_star(&self) -> bool {
        self.0.contains('*')
    }

    /// `label="x"`, or `label=~"…"` for a glob. The value is quoted as PromQL reads it.
    pub(super) fn matcher(&self, label: &str) -> String {
        let Self(text) = self;
        if !text.contains(['*', '?']) {
            return format!("{label}={}", quoted(text));
        }
        if text.chars().all(|c| c == '*') {
            return format!("{label}!=\"\"");
        }
        let mut regex = String::new();
        for c in text.chars() {
            match c {
                '*' => regex.push_str(".*"),
                '?' => regex.push('.'),
                c if r"\.+()|[]{}^$".contains(c) => regex.extend(['\\', c]),
                c => regex.push(c),
            }
        }
        format!("{label}=~{}", quoted(&regex))
    }
}

/// A text in double quotes, as PromQL and JSON read it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl ServiceSelector {
    /// As written.
    pub(super) fn text(&self) -> String {
        format!("{}/{}", self.namespace.text(), self.name.text())
    }
}

impl TryFrom<String> for ServiceSelector {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, name] => Ok(Self { namespace: Part::name(namespace, text)?, name: Part::name(name, text)? }),
            _ => {
                Err(format!("{text:?} is no service; write NAMESPACE/SERVICE, such as `payments/cart` or `payments/*`"))
            }
        }
    }
}

impl TryFrom<String> for EdgeSelector {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some((source, destination)) = text.split_once("->").filter(|(_, rest)| !rest.contains("->")) else {
            let form = "NAMESPACE/WORKLOAD -> NAMESPACE/SERVICE, such as `shop/web -> payments/*`";
            return Err(format!("{text:?} is no edge; write {form}"));
        };
        Ok(Self {
            source: ServiceSelector::try_from(source.to_owned())?,
            destination: ServiceSelector::try_from(destination.to_owned())?,
        })
    }
}

impl TryFrom<String> for RouteSelector {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.splitn(3, '/').collect::<Vec<_>>()[..] {
            [namespace, name, route] => Ok(Self {
                service: ServiceSelector { namespace: Part::name(namespace, &text)?, name: Part::name(name, &text)? },
                route: Part::any(route, &text)?,
            }),
            _ => {
                let form = "NAMESPACE/SERVICE/ROUTE, such as `payments/cart/*`";
                Err(format!("{text:?} is no route; write {form}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn globs_become_matchers() {
        for (text, expect) in [
            ("cart", r#"a="cart""#),
            ("cart.v1", r#"a="cart.v1""#),
            ("*", r#"a!="""#),
            ("pay*", r#"a=~"pay.*""#),
            ("a.b?", r#"a=~"a\\.b.""#),
        ] {
            assert_eq!(Part::name(text, text).unwrap().matcher("a"), expect);
        }
        let route = RouteSelector::try_from("shop/cart/GET /items/\"x\" (*)".to_owned()).unwrap();
        assert_eq!(route.route.matcher("r"), r#"r=~"GET /items/\"x\" \\(.*\\)""#);
    }

    #[test]
    fn what_is_no_selector_is_named_with_its_mend() {
        let service = |text: &str| ServiceSelector::try_from(text.to_owned()).unwrap_err();
        assert!(service("cart").contains("write NAMESPACE/SERVICE"));
        assert!(service("a/b/c").contains("is no service"));
        assert!(service("a/").contains("has an empty part; write `*` for any"));
        assert!(service("a/[bc]").contains("no brackets"));
        assert!(service("a/b c").contains("holds ' '"));
        assert!(service(&format!("a/{}", "x".repeat(300))).contains("more than 253"));
        let edge = |text: &str| EdgeSelector::try_from(text.to_owned()).unwrap_err();
        assert!(edge("a/b").contains("is no edge") && edge("a/b -> c/d -> e/f").contains("is no edge"));
        assert!(edge("a/b -> c").contains("is no service"));
        let edge = EdgeSelector::try_from("shop/web -> payments/*".to_owned()).unwrap();
        assert_eq!((edge.source.name, edge.destination.name.has_star()), (Part("web".to_owned()), true));
        assert!(RouteSelector::try_from("a/b".to_owned()).unwrap_err().contains("is no route"));
    }
}
