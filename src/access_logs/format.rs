//! Text formats of access logs: Envoy's command operators, compiled once, matched without regular expressions.
//!
//! In: a format string. Out: [`Format`]; a line becomes the texts between the literal parts. Invariant: matching takes a
//! bounded number of steps, whatever the line.

use std::borrow::Cow;

use serde::Deserialize;

use super::fields::{Field, Fields};
use crate::model::access_log::Detail;

/// The format of Istio's text encoding (`pilot/pkg/model/telemetry_logging.go`, `EnvoyTextLogFormat`).
pub(super) const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";
/// The format of Envoy itself.
pub(super) const ENVOY: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

/// Places tried in one line before it counts as not of this format: a user agent full of quotes must not cost more.
const STEPS_MAX: usize = 65_536;
/// Longest format, and most operators in one.
const FORMAT_BYTES_MAX: usize = 16 << 10;
const OPERATORS_MAX: usize = 256;

/// What is wrong with a format string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A percent sign begins no operator.
    #[error(
        "no command operator at byte {at} of the format: write %NAME%, %NAME(X)% or %NAME(X):Z%, and %% for a percent sign"
    )]
    Operator {
        /// Where.
        at: usize,
    },
    /// Nothing tells where the first of two ends.
    #[error("two operators without text between them at byte {at} of the format: where the first ends cannot be told")]
    Adjacent {
        /// Where the second begins.
        at: usize,
    },
    /// Nothing would be known of a line.
    #[error(
        "the format has no operator that an access log is known by: %RESPONSE_CODE%, %RESPONSE_FLAGS%, %UPSTREAM_CLUSTER%, …"
    )]
    Nothing,
    /// Too long.
    #[error("the format is longer than {FORMAT_BYTES_MAX} bytes or has more than {OPERATORS_MAX} operators")]
    TooLong,
}

/// A compiled format: text, operator, text, operator, …, text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Format {
    first: String,
    /// Each operator (`None`: passed over) with the text behind it; only the last text may be empty.
    operators: Vec<(Option<Field>, String)>,
}

impl TryFrom<String> for Format {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        Self::compile(&text)
    }
}

impl Format {
    /// Compiles a format string; blanks and line ends at its end do not count.
    ///
    /// # Errors
    /// When an operator is written wrongly, or a line of it could not be taken apart.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let text = text.trim_end();
        if text.len() > FORMAT_BYTES_MAX {
            return Err(FormatError::TooLong);
        }
        let mut format = Self { first: String::new(), operators: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            format.last_literal().push_str(&rest[..at]);
            let place = text.len() - rest.len() + at;
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('%') {
                format.last_literal().push('%');
                rest = after;
                continue;
            }
            let (name, arguments, after) = operator(after).ok_or(FormatError::Operator { at: place })?;
            if format.operators.last().is_some_and(|(_, literal)| literal.is_empty()) {
                return Err(FormatError::Adjacent { at: place });
            }
            format.operators.push((Field::of_operator(name, arguments), String::new()));
            rest = after;
        }
        format.last_literal().push_str(rest);
        let told = |wanted: Field| format.operators.iter().any(|(field, _)| *field == Some(wanted));
        match () {
            () if format.operators.len() > OPERATORS_MAX => Err(FormatError::TooLong),
            () if !super::record::DISTINCTIVE.into_iter().any(told) => Err(FormatError::Nothing),
            () => Ok(format),
        }
    }

    fn last_literal(&mut self) -> &mut String {
        self.operators.last_mut().map_or(&mut self.first, |(_, literal)| literal)
    }

    /// Takes a line apart; `false`, and nothing taken, when it is not of this format.
    ///
    /// What is between two texts may hold the second text too (a user agent with quotes): the first way in which all
    /// texts are found and each operator can print what it got is taken.
    pub(super) fn read<'a>(&self, line: &'a str, fields: &mut Fields<'a>) -> bool {
        let line = line.trim_end();
        let Some(start) = line.strip_prefix(self.first.as_str()).map(|rest| line.len() - rest.len()) else {
            return false;
        };
        let mut ends: Vec<(usize, usize)> = Vec::with_capacity(self.operators.len());
        // The operator to be placed begins at `start`, and its end is looked for from `from` on.
        let (mut start, mut from, mut steps) = (start, start, 0);
        while let Some((field, literal)) = self.operators.get(ends.len()) {
            steps += 1;
            let is_last = ends.len() + 1 == self.operators.len();
            let end = if is_last { end_of_last(line, from, literal) } else { find(line, from, literal) };
            match end {
                Some(end) if field.is_none_or(|field| fits(field, &line[start..end])) => {
                    ends.push((start, end));
                    start = end + literal.len();
                    from = start;
                }
                // A longer text for this operator.
                Some(end) if !is_last && steps < STEPS_MAX => {
                    from = end + line[end..].chars().next().map_or(1, char::len_utf8);
                }
                // None fits: a longer text for the one before.
                _ => match ends.pop() {
                    Some((before, end)) if steps < STEPS_MAX => {
                        start = before;
                        from = end + line[end..].chars().next().map_or(1, char::len_utf8);
                    }
                    _ => return false,
                },
            }
        }
        for ((field, _), (start, end)) in self.operators.iter().zip(ends) {
            if let Some(field) = field {
                fields.set(*field, Cow::Borrowed(&line[start..end]));
            }
        }
        true
    }
}

fn find(line: &str, from: usize, literal: &str) -> Option<usize> {
    line.get(from..)?.find(literal).map(|at| from + at)
}

fn end_of_last(line: &str, from: usize, literal: &str) -> Option<usize> {
    line.strip_suffix(literal).map(str::len).filter(|end| *end >= from)
}

/// Whether a field can have that text: numbers are numbers, and only a few texts that callers write hold blanks or quotes.
fn fits(field: Field, text: &str) -> bool {
    match field {
        _ if text == "-" => true,
        _ if field.is_number() => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        Field::Detail(Detail::UserAgent | Detail::ForwardedFor | Detail::TransportFailure | Detail::PeerPrincipal) => {
            true
        }
        _ => !text.bytes().any(|byte| matches!(byte, b' ' | b'"')),
    }
}

/// Name and arguments of the operator whose first percent sign is gone, and what is behind its last.
fn operator(text: &str) -> Option<(&str, &str, &str)> {
    let length = text.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
    let (name, mut rest) = text.split_at(length);
    if name.is_empty() {
        return None;
    }
    let mut arguments = "";
    if let Some(inside) = rest.strip_prefix('(') {
        let end = inside.find(')')?;
        (arguments, rest) = (&inside[..end], &inside[end + 1..]);
    }
    if let Some(length) = rest.strip_prefix(':') {
        rest = length.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    Some((name, arguments, rest.strip_prefix('%')?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const LINE: &str = "[2024-03-14T14:43:03.130Z] \"POST /oteldemo.CurrencyService/Convert HTTP/2\" 200 - \
        via_upstream - \"-\" 26 19 7 6 \"-\" \"grpc-go/1.46.2\" \"422dff1b\" \"otel-currencyservice:8080\" \
        \"100.64.0.41:8080\" outbound|8080||otel-currencyservice.demo.svc.cluster.local 100.64.0.57:49312 \
        100.106.93.100:8080 100.64.0.57:34402 - default\n";

    fn read<'a>(format: &str, line: &'a str) -> Option<Fields<'a>> {
        let mut fields = Fields::default();
        Format::compile(format).unwrap().read(line, &mut fields).then_some(fields)
    }

    #[test]
    fn takes_istios_text_apart() {
        let fields = read(ISTIO, LINE).unwrap();
        assert_eq!(fields.detail(Detail::Path), Some("/oteldemo.CurrencyService/Convert"));
        assert_eq!(fields.get(Field::Code), Some("200"));
        assert_eq!(fields.get(Field::Flags), None, "a dash says nothing");
        assert_eq!(fields.number(Field::Duration), Some(7));
        assert_eq!(fields.detail(Detail::RouteName), Some("default"));
        assert_eq!(fields.get(Field::StartTime), Some("2024-03-14T14:43:03.130Z"));
        assert!(read(ENVOY, LINE).is_none());
    }

    #[test]
    fn a_user_agent_with_quotes_and_blanks_moves_no_other_text() {
        let line = LINE.replace("grpc-go/1.46.2", "a\" \"b\" \"c");
        let fields = read(ISTIO, &line).unwrap();
        assert_eq!(fields.detail(Detail::RouteName), Some("default"));
        assert_eq!(fields.number(Field::Duration), Some(7));
        let hostile = LINE.replace("grpc-go/1.46.2", &"\" \"".repeat(20_000));
        drop(read(ISTIO, &hostile)); // bounded, whatever it is taken for
    }

    #[test]
    fn lines_of_another_format_are_not_taken() {
        for line in ["", "hello", "[x] \"a b c\" 200", &LINE[1..], &LINE.replace(" 200 ", " OK ")] {
            assert!(read(ISTIO, line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn a_format_of_ones_own_is_compiled_or_refused_with_its_place() {
        let format = "%START_TIME(%Y/%m %H%M)% 100%% %RESPONSE_CODE% %REQ(X-MY-OWN):10% %UPSTREAM_CLUSTER%|";
        let fields = read(format, "2024/03 1200 100% 503 x outbound|80||a.b.svc.cluster.local|").unwrap();
        assert_eq!(fields.get(Field::Code), Some("503"));
        assert_eq!(fields.detail(Detail::UpstreamCluster), Some("outbound|80||a.b.svc.cluster.local"));
        assert_eq!(fields.get(Field::StartTime), None);
        for (text, error) in [
            ("a %b%", FormatError::Operator { at: 2 }),
            ("%RESPONSE_CODE", FormatError::Operator { at: 0 }),
            ("%REQ(X", FormatError::Operator { at: 0 }),
            ("%RESPONSE_CODE%%RESPONSE_FLAGS%", FormatError::Operator { at: 15 }),
            ("%DURATION% %PROTOCOL%", FormatError::Nothing),
            ("", FormatError::Nothing),
        ] {
            let found = Format::compile(text).unwrap_err();
            assert!(found == error || matches!(found, FormatError::Adjacent { .. }), "{text:?}: {found:?}");
        }
        assert_eq!(Format::compile(&"x".repeat(FORMAT_BYTES_MAX + 1)), Err(FormatError::TooLong));
    }
}
