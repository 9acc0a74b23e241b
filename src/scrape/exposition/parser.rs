//! The scan over a page: finds where each series, value and timestamp begins and ends.
//!
//! Invariant: a key that a recogniser knows is stepped over without looking at its bytes again.

use memchr::{memchr, memchr2};

use super::labels::is_name_byte;
use super::number::parse_float;
use super::{Entry, Exemplar, Format, MetricKind, ParseError, Sample};
use crate::model::Timestamp;

/// How much of a bad line an error shows.
const SHOWN_BYTES: usize = 200;

/// The entries of one page, in order. After an error it gives nothing more.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    page: &'a [u8],
    at: usize,
    format: Format,
    ended: bool,
    /// A window before held the end of the page.
    has_ended: bool,
    /// Where the entry given last, or the mistake, begins.
    entry_at: usize,
    /// Newlines stepped over, those of the windows before included.
    lines: usize,
    /// Lines of the windows before.
    lines_before: usize,
    is_last: bool,
}

/// How far into a page a [`Parser`] of one of its windows came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    lines: usize,
    ended: bool,
}

/// OpenMetrics allows nothing after its end.
const AFTER_END: &str = "unexpected data after # EOF";

type Step<T> = Result<T, String>;

impl<'a> Parser<'a> {
    /// The entries of `page`.
    pub fn new(format: Format, page: &'a [u8]) -> Self {
        Self::window(format, page, Progress::default(), true)
    }

    /// The entries of the next lines of a page whose lines before were read up to `before`. Unless these are the last
    /// ones of the page they must end with a newline.
    pub fn window(format: Format, lines: &'a [u8], before: Progress, is_last: bool) -> Self {
        let Progress { lines: lines_before, ended: has_ended } = before;
        let ended = has_ended && lines.is_empty(); // nothing follows the end, as it should be
        let (at, entry_at) = (0, 0);
        Self { page: lines, at, format, ended, has_ended, entry_at, lines: lines_before, lines_before, is_last }
    }

    /// How far it came: for the next window.
    pub fn progress(&self) -> Progress {
        Progress { lines: self.lines, ended: self.ended }
    }

    /// How many bytes it has read.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The line of the page, from 1, on which the entry it gave last ends.
    pub fn line(&self) -> usize {
        self.lines.max(1)
    }

    /// Where the entry it gave last begins, or the mistake, and how far it was there.
    pub fn entry_start(&self) -> (usize, Progress) {
        let lines = memchr::memchr_iter(b'\n', &self.page[..self.entry_at]).count();
        (self.entry_at, Progress { lines: self.lines_before + lines, ended: self.has_ended })
    }

    /// The next entry. `recognise` is shown what is left of the page at the start of a sample line and may say how many
    /// bytes its key has, when it is sure; else the key is scanned for.
    pub fn next_entry(
        &mut self,
        recognise: impl FnOnce(&'a [u8]) -> Option<usize>,
    ) -> Option<Result<Entry<'a>, ParseError>> {
        if self.ended {
            return None;
        }
        let mut line_start = self.at;
        if self.has_ended {
            return Some(Err(self.fail(line_start, AFTER_END.to_owned())));
        }
        let entry = loop {
            line_start = if self.format == Format::Text { self.skip_blank_lines() } else { self.at.max(line_start) };
            match self.page.get(self.at) {
                None if !self.is_last => return None,
                None if self.format == Format::OpenMetrics => break Err("data does not end with # EOF".to_owned()),
                None => {
                    self.ended = true;
                    return None;
                }
                Some(b'#') => match self.comment() {
                    Ok(None) if self.ended => return None,
                    Ok(None) => continue,
                    Ok(Some(entry)) => break Ok(entry),
                    Err(reason) => break Err(reason),
                },
                Some(_) => break self.sample(recognise).map(Entry::Sample),
            }
        };
        self.entry_at = line_start;
        Some(entry.map_err(|reason| self.fail(line_start, reason)))
    }

    /// The error for a mistake that the reader of the entries found in the entry that holds `text`.
    pub fn error_at(&self, text: &[u8], reason: String) -> ParseError {
        let offset = (text.as_ptr() as usize).saturating_sub(self.page.as_ptr() as usize);
        self.describe(offset.min(self.page.len()), reason)
    }

    fn fail(&mut self, line_start: usize, reason: String) -> ParseError {
        self.ended = true;
        self.entry_at = line_start;
        self.describe(line_start, reason)
    }

    fn describe(&self, line_start: usize, reason: String) -> ParseError {
        let line = 1 + self.lines_before + self.page[..line_start].iter().filter(|byte| **byte == b'\n').count();
        let rest = &self.page[line_start..];
        let end = memchr(b'\n', rest).unwrap_or(rest.len()).min(SHOWN_BYTES);
        ParseError { line, text: String::from_utf8_lossy(&rest[..end]).into_owned(), reason }
    }

    fn rest(&self) -> &'a [u8] {
        &self.page[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.page.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_blank_lines(&mut self) -> usize {
        while let Some(byte @ (b' ' | b'\t' | b'\n')) = self.peek() {
            self.at += 1;
            self.lines += usize::from(byte == b'\n');
        }
        self.at
    }

    /// The line from here on, without its newline; moves past it.
    fn take_line(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        self.at += (end + 1).min(rest.len());
        self.lines += 1;
        &rest[..end]
    }

    // === lines that begin with # ===

    fn comment(&mut self) -> Step<Option<Entry<'a>>> {
        let line = self.take_line();
        match self.format {
            Format::Text => text_comment(line),
            Format::OpenMetrics if line == b"# EOF" => {
                self.ended = true;
                if self.at < self.page.len() {
                    return Err(AFTER_END.to_owned());
                }
                Ok(None)
            }
            Format::OpenMetrics => openmetrics_comment(line).map(Some),
        }
    }

    // === samples ===

    #[inline]
    fn sample(&mut self, recognise: impl FnOnce(&'a [u8]) -> Option<usize>) -> Step<Sample<'a>> {
        let rest = self.rest();
        let known = recognise(rest);
        let length = match known {
            Some(length) => length,
            None => self.key_length(rest)?,
        };
        let key = &rest[..length];
        self.at += length;
        let needs_blank = self.format == Format::OpenMetrics || key.last() != Some(&b'}');
        if !self.skip_separator() && needs_blank {
            return Err("expected a blank and a value after the series".to_owned());
        }
        let word = self.take_word();
        let value = parse_float(word).ok_or_else(|| match word {
            [] => "expected a value after the series".to_owned(),
            _ => format!("invalid value `{}`", String::from_utf8_lossy(word)),
        })?;
        let value = if value.is_nan() { f64::NAN } else { value };
        let mut sample = Sample { key, recognised: known.is_some(), value, at: None, exemplar: None };
        if self.peek() == Some(b'\n') {
            self.at += 1; // the common end of a line
            self.lines += 1;
        } else {
            self.after_value(&mut sample)?;
        }
        Ok(sample)
    }

    fn after_value(&mut self, sample: &mut Sample<'a>) -> Step<()> {
        self.skip_separator_within()?;
        if !matches!(self.peek(), None | Some(b'\n' | b'#')) {
            let word = self.take_word();
            sample.at = Some(match self.format {
                Format::Text => whole_milliseconds(word)?,
                Format::OpenMetrics => seconds(word)?,
            });
            self.skip_separator_within()?;
        }
        if self.format == Format::OpenMetrics && self.peek() == Some(b'#') {
            sample.exemplar = Some(self.exemplar()?);
        }
        match self.peek() {
            None => Ok(()),
            Some(b'\n') => {
                self.at += 1;
                self.lines += 1;
                Ok(())
            }
            Some(_) => Err("expected the end of the line".to_owned()),
        }
    }

    /// `# {labels} value [timestamp]`.
    fn exemplar(&mut self) -> Step<Exemplar<'a>> {
        self.at += 1;
        self.skip_separator();
        if self.peek() != Some(b'{') {
            return Err("expected `{` after # of an exemplar".to_owned());
        }
        let length = self.key_length(self.rest())?;
        let labels = &self.rest()[..length];
        self.at += length;
        self.skip_separator();
        let word = self.take_word();
        let value = parse_float(word).ok_or("invalid value of an exemplar")?;
        self.skip_separator_within()?;
        let at = match self.peek() {
            None | Some(b'\n') => None,
            Some(_) => Some(seconds(self.take_word())?),
        };
        Ok(Exemplar { labels, value, at })
    }

    /// How many bytes the series at the start of `rest` has.
    fn key_length(&self, rest: &[u8]) -> Step<usize> {
        let length = scan_key(rest)?;
        if self.format == Format::OpenMetrics {
            check_openmetrics_key(&rest[..length])?;
        }
        Ok(length)
    }

    /// Blanks between the parts of a line: one space in OpenMetrics, any number of spaces and tabs in text.
    #[inline]
    fn skip_separator(&mut self) -> bool {
        let start = self.at;
        match self.format {
            Format::Text => self.skip_blanks(),
            Format::OpenMetrics => self.at += usize::from(self.peek() == Some(b' ')),
        }
        self.at > start
    }

    /// The same where the line may end: OpenMetrics allows no blank before its end.
    fn skip_separator_within(&mut self) -> Step<()> {
        let is_blank = self.skip_separator() && self.format == Format::OpenMetrics;
        if is_blank && matches!(self.peek(), None | Some(b'\n')) {
            return Err("a blank at the end of the line".to_owned());
        }
        Ok(())
    }

    #[inline]
    fn take_word(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry(|_| None)
    }
}

/// How many bytes the series at the start of `rest` has: the name, and the braces when there are any.
fn scan_key(rest: &[u8]) -> Step<usize> {
    let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
    if rest.first().is_some_and(u8::is_ascii_digit) {
        return Err("a series cannot begin with a digit".to_owned());
    }
    let blanks = rest[name..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if rest.get(name + blanks) == Some(&b'{') {
        return scan_braces(rest, name + blanks + 1);
    }
    if name == 0 { Err("expected a metric name or `{`".to_owned()) } else { Ok(name) }
}

/// OpenMetrics allows no blanks in a series, and needs the commas that the text format does without.
fn check_openmetrics_key(key: &[u8]) -> Step<()> {
    let Some(open) = memchr(b'{', key) else { return Ok(()) };
    let mut rest = &key[open + 1..];
    let name = key[..open].iter().all(|byte| is_name_byte(*byte));
    if !name {
        return Err("expected `{` or a blank and a value right after the metric name".to_owned());
    }
    while rest != b"}" {
        rest = past_word(rest).ok_or("expected a label name: OpenMetrics allows no blanks between labels")?;
        if let [b'=', value @ ..] = rest {
            rest = past_word(value).ok_or("expected a label value: OpenMetrics allows no blanks between labels")?;
        }
        rest = match rest {
            [b',', more @ ..] => more,
            b"}" => rest,
            _ => return Err("expected `,` or `}` after a label".to_owned()),
        };
    }
    Ok(())
}

/// What follows a name or a text in quotes.
fn past_word(rest: &[u8]) -> Option<&[u8]> {
    let [b'"', quoted @ ..] = rest else {
        let length = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
        return (length > 0).then(|| &rest[length..]);
    };
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', quoted.get(at..)?) {
        at += found;
        if quoted[at] == b'"' {
            return Some(&quoted[at + 1..]);
        }
        at += 2;
    }
    None
}

/// Steps over braces, not mistaking a `}` inside quotes for their end.
fn scan_braces(rest: &[u8], mut at: usize) -> Step<usize> {
    while let Some(found) = memchr2(b'"', b'}', &rest[at..]) {
        if memchr(b'\n', &rest[at..at + found]).is_some() {
            break;
        }
        at += found + 1;
        if rest[at - 1] == b'}' {
            return Ok(at);
        }
        loop {
            let Some(found) = memchr2(b'"', b'\\', &rest[at..]) else {
                return Err("text without closing quote".to_owned());
            };
            at += found + 1;
            if rest[at - 1] == b'"' {
                break;
            }
            at = (at + 1).min(rest.len()); // the escaped byte
        }
    }
    Err("labels without closing brace".to_owned())
}

fn whole_milliseconds(word: &[u8]) -> Step<Timestamp> {
    let text = std::str::from_utf8(word).unwrap_or_default();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let ms: Option<i64> = text.parse().ok().filter(|_| digits);
    let reason = || format!("invalid timestamp `{}`, expected whole milliseconds", String::from_utf8_lossy(word));
    ms.map(Timestamp::from_millis).ok_or_else(reason)
}

fn seconds(word: &[u8]) -> Step<Timestamp> {
    let reason = || format!("invalid timestamp `{}`, expected seconds", String::from_utf8_lossy(word));
    let seconds = parse_float(word).filter(|seconds| seconds.is_finite()).ok_or_else(reason)?;
    Ok(Timestamp::from_millis((seconds * 1000.0) as i64)) // cut, not rounded, as Prometheus does
}

/// In the text format anything after `#` that is not HELP or TYPE is a comment.
fn text_comment(line: &[u8]) -> Step<Option<Entry<'_>>> {
    let rest = line[1..].trim_ascii_start();
    if rest.len() + 1 == line.len() {
        return Ok(None); // `#TYPE` without a blank is a comment too
    }
    let (is_help, rest) = match rest {
        [b'H', b'E', b'L', b'P', b' ' | b'\t', rest @ ..] => (true, rest),
        [b'T', b'Y', b'P', b'E', b' ' | b'\t', rest @ ..] => (false, rest),
        _ => return Ok(None),
    };
    let (name, text) = metric_name(rest.trim_ascii_start())?;
    let text = if matches!(text, [b' ' | b'\t', ..]) { &text[1..] } else { text };
    if is_help {
        return Ok(Some(Entry::Help { name, text }));
    }
    let kind = match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"summary" => MetricKind::Summary,
        b"untyped" => MetricKind::Unknown,
        other => return Err(format!("invalid metric type `{}`", String::from_utf8_lossy(other))),
    };
    Ok(Some(Entry::Kind { name, kind }))
}

/// OpenMetrics knows only these lines.
fn openmetrics_comment(line: &[u8]) -> Step<Entry<'_>> {
    let (word, rest) = match line {
        [b'#', b' ', word @ ..] => word.split_at(memchr(b' ', word).map_or(word.len(), |at| at + 1)),
        _ => return Err("expected `# HELP`, `# TYPE`, `# UNIT` or `# EOF`".to_owned()),
    };
    if !matches!(word, b"HELP " | b"TYPE " | b"UNIT ") {
        return Err("expected `# HELP`, `# TYPE`, `# UNIT` or `# EOF`".to_owned());
    }
    let (name, text) = metric_name(rest)?;
    let text = text.strip_prefix(b" ").ok_or("expected a blank and a text after the metric name")?;
    Ok(match word {
        b"HELP " => Entry::Help { name, text },
        b"UNIT " => {
            let suffix_ok = text.is_empty() || name.strip_suffix(text).is_some_and(|base| base.ends_with(b"_"));
            if !suffix_ok {
                let (unit, name) = (String::from_utf8_lossy(text), String::from_utf8_lossy(name));
                return Err(format!("unit `{unit}` is not a suffix of metric `{name}`"));
            }
            Entry::Unit { name, unit: text }
        }
        _ => Entry::Kind { name, kind: openmetrics_kind(text)? },
    })
}

fn openmetrics_kind(text: &[u8]) -> Step<MetricKind> {
    Ok(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"gaugehistogram" => MetricKind::GaugeHistogram,
        b"summary" => MetricKind::Summary,
        b"info" => MetricKind::Info,
        b"stateset" => MetricKind::StateSet,
        b"unknown" => MetricKind::Unknown,
        other => return Err(format!("invalid metric type `{}`", String::from_utf8_lossy(other))),
    })
}

/// The metric name of a HELP, TYPE or UNIT line, with or without quotes, and what follows.
fn metric_name(rest: &[u8]) -> Step<(&[u8], &[u8])> {
    if let [b'"', quoted @ ..] = rest {
        let mut at = 0;
        while let Some(found) = memchr2(b'"', b'\\', &quoted[at..]) {
            at += found;
            if quoted[at] == b'"' {
                return Ok((&quoted[..at], &quoted[at + 1..]));
            }
            at = (at + 2).min(quoted.len());
        }
        return Err("metric name without closing quote".to_owned());
    }
    let length = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
    if length == 0 || rest[0].is_ascii_digit() {
        return Err("expected a metric name".to_owned());
    }
    Ok(rest.split_at(length))
}
