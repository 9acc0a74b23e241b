//! Splits a query into tokens that know their place.
//!
//! In: query text. Out: [`Token`]s up to the end of input or the first lexical error, with Prometheus' error texts
//! (`promql/parser/lex.go`). Invariant: token places are byte offsets on character boundaries, in rising order.

mod quote;

use self::quote::{code_point, quote_char};
use super::ast::{AggregateOp, BinaryOp};

pub(super) use self::quote::{is_plain_label, quote, quote_bytes, unquote};

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    End,
    Error(String),
    Comma,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Colon,
    Equal,
    EqualRegex,
    NotRegex,
    At,
    Number,
    Duration,
    Text,
    Identifier,
    MetricIdentifier,
    Operator(BinaryOp),
    Aggregator(AggregateOp),
    Keyword(Keyword),
}

/// Words with a meaning of their own outside braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Offset,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Bool,
    Start,
    End,
}

/// One token and its place, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// All tokens of `query`; the last is [`Kind::End`] or [`Kind::Error`]. Comments are skipped.
pub(super) fn tokens(query: &str) -> Vec<Token> {
    let mut lexer =
        Lexer { query, at: 0, parens: 0, braces: false, brackets: false, colon_seen: false, range_begins: false };
    let mut tokens = Vec::with_capacity(query.len() / 4 + 2);
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let kind = if lexer.braces { lexer.next_in_braces() } else { lexer.next() };
        let kind = kind.unwrap_or_else(Kind::Error);
        let done = matches!(kind, Kind::End | Kind::Error(_));
        // Prometheus has taken the parenthesis already when it finds that it is one too many.
        // So it has the colon that no duration precedes.
        let taken = matches!(&kind, Kind::Error(message) if message == PAREN_TOO_MANY || message == COLON_FIRST);
        let start = if taken { lexer.at } else { start };
        tokens.push(Token { kind, start, end: lexer.at });
        if done {
            return tokens;
        }
    }
}

impl Token {
    /// How Prometheus names the token in an error: `identifier "bar"`, `<op:+>`, `end of input`.
    pub(super) fn describe(&self, query: &str) -> String {
        let text = &query[self.start..self.end];
        match &self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Error(message) => message.clone(),
            Kind::Identifier => format!("identifier {}", quote(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(text)),
            // These two are no keywords to Prometheus.
            Kind::Keyword(Keyword::Start | Keyword::End) => shortened(text),
            Kind::Keyword(_) => format!("<{text}>"),
            Kind::Operator(_) | Kind::At | Kind::EqualRegex | Kind::NotRegex => format!("<op:{text}>"),
            Kind::Aggregator(_) => format!("<aggr:{text}>"),
            Kind::Number => format!("number {}", shortened(text)),
            Kind::Duration => format!("duration {}", shortened(text)),
            Kind::Text => format!("string {}", shortened(text)),
            _ => shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(10) {
        Some((cut, _)) => format!("{}...", quote(&text[..cut])),
        None => quote(text),
    }
}

const PAREN_TOO_MANY: &str = "unexpected right parenthesis ')'";
const COLON_FIRST: &str = "unexpected colon before duration in duration expression";

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    parens: usize,
    braces: bool,
    brackets: bool,
    colon_seen: bool,
    /// The last token was `[`, so a range must begin here.
    range_begins: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.query[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn bump_if(&mut self, want: impl Fn(char) -> bool) -> bool {
        let hit = self.peek().is_some_and(want);
        if hit {
            self.bump();
        }
        hit
    }

    fn skip_while(&mut self, want: impl Fn(char) -> bool) {
        while self.bump_if(&want) {}
    }

    fn skip_blank(&mut self) {
        loop {
            self.skip_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            // A range begins without comments.
            if self.peek() != Some('#') || self.range_begins {
                return;
            }
            self.skip_while(|c| c != '\n' && c != '\r');
        }
    }

    fn next(&mut self) -> Result<Kind, String> {
        if std::mem::take(&mut self.range_begins) {
            return self.next_of_range();
        }
        let start = self.at;
        let Some(c) = self.bump() else {
            return match (self.parens, self.brackets) {
                (1.., _) => Err("unclosed left parenthesis".to_owned()),
                (0, true) => Err("unclosed left bracket".to_owned()),
                (0, false) => Ok(Kind::End),
            };
        };
        if let Some(operator) = self.operator(c)? {
            return Ok(operator);
        }
        Ok(match c {
            ',' => Kind::Comma,
            '@' => Kind::At,
            '0'..='9' | '.' if c != '.' || self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                self.at = start;
                return self.number_or_duration();
            }
            '"' | '\'' | '`' => return self.text(c),
            // Prometheus takes any letter here for the colon.
            c if self.brackets && (is_alpha(c) || c == ':') => {
                if std::mem::replace(&mut self.colon_seen, true) {
                    return Err(format!("unexpected colon '{c}'"));
                }
                Kind::Colon
            }
            c if is_alpha(c) || c == ':' => {
                self.skip_while(|c| is_alphanumeric(c) || c == ':');
                word(&self.query[start..self.at])
            }
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => {
                self.parens = self.parens.checked_sub(1).ok_or(PAREN_TOO_MANY)?;
                Kind::RightParen
            }
            '{' => {
                self.braces = true;
                Kind::LeftBrace
            }
            '[' if self.brackets => return Err("unexpected left bracket '['".to_owned()),
            '[' => {
                (self.brackets, self.colon_seen, self.range_begins) = (true, false, true);
                Kind::LeftBracket
            }
            ']' if !self.brackets => return Err("unexpected right bracket ']'".to_owned()),
            ']' => {
                self.brackets = false;
                Kind::RightBracket
            }
            c => return Err(format!("unexpected character: {}", quote_char(c))),
        })
    }

    /// After `[`, up to the first number: only what a duration may begin with.
    fn next_of_range(&mut self) -> Result<Kind, String> {
        let start = self.at;
        let Some(c) = self.bump() else { return Err("unexpected end of input in duration expression".to_owned()) };
        let digit = c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit()));
        self.range_begins = !digit && !matches!(c, ']' | ':');
        Ok(match c {
            '+' | '-' | '*' | '/' | '%' | '^' => return self.operator(c).map(|kind| kind.unwrap_or(Kind::End)),
            _ if digit => {
                self.at = start;
                return self.number_or_duration();
            }
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => {
                self.parens = self.parens.checked_sub(1).ok_or(PAREN_TOO_MANY)?;
                Kind::RightParen
            }
            ']' => {
                self.brackets = false;
                Kind::RightBracket
            }
            ':' => return Err(COLON_FIRST.to_owned()),
            c => return Err(format!("unexpected character in duration expression: {}", quote_char(c))),
        })
    }

    fn operator(&mut self, c: char) -> Result<Option<Kind>, String> {
        use BinaryOp::{Add, Div, Equal, Greater, GreaterEqual, Less, LessEqual, Mod, Mul, NotEqual, Pow, Sub};
        let operator = match c {
            '*' => Mul,
            '/' => Div,
            '%' => Mod,
            '+' => Add,
            '-' => Sub,
            '^' => Pow,
            '<' if self.bump_if(|c| c == '=') => LessEqual,
            '<' => Less,
            '>' if self.bump_if(|c| c == '=') => GreaterEqual,
            '>' => Greater,
            '=' if self.bump_if(|c| c == '=') => Equal,
            '=' if self.peek() == Some('~') => return Err("unexpected character after '=': '~'".to_owned()),
            '=' => return Ok(Some(Kind::Equal)),
            '!' if self.bump_if(|c| c == '=') => NotEqual,
            '!' => return Err(format!("unexpected character after '!': {}", self.quoted_next())),
            _ => return Ok(None),
        };
        Ok(Some(Kind::Operator(operator)))
    }

    fn next_in_braces(&mut self) -> Result<Kind, String> {
        let Some(c) = self.bump() else { return Err("unexpected end of input inside braces".to_owned()) };
        Ok(match c {
            c if is_alpha(c) => {
                self.skip_while(is_alphanumeric);
                Kind::Identifier
            }
            ',' => Kind::Comma,
            '"' | '\'' | '`' => return self.text(c),
            '=' if self.bump_if(|c| c == '~') => Kind::EqualRegex,
            '=' => Kind::Equal,
            '!' if self.bump_if(|c| c == '~') => Kind::NotRegex,
            '!' if self.bump_if(|c| c == '=') => Kind::Operator(BinaryOp::NotEqual),
            '!' => return Err(format!("unexpected character after '!' inside braces: {}", self.quoted_next())),
            '{' => return Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.braces = false;
                Kind::RightBrace
            }
            c => return Err(format!("unexpected character inside braces: {}", quote_char(c))),
        })
    }

    fn quoted_next(&self) -> String {
        self.peek().map_or_else(|| "'\\ufffd'".to_owned(), quote_char)
    }

    fn number_or_duration(&mut self) -> Result<Kind, String> {
        let start = self.at;
        if self.scan_number() && !self.peek().is_some_and(is_alphanumeric) {
            return Ok(Kind::Number);
        }
        let mut is_duration = self.duration_unit("smhdwy");
        while is_duration && self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.skip_while(|c| c.is_ascii_digit());
            is_duration = self.duration_unit("smhdw");
        }
        if is_duration && !self.bump_if(is_alphanumeric) {
            return Ok(Kind::Duration);
        }
        Err(format!("bad number or duration syntax: {}", quote(&self.query[start..self.at])))
    }

    /// Takes decimal digits with `_` between them, a fraction and an exponent, or hexadecimal digits; `false` when they do
    /// not end as a number. Rule: `scanNumber` of P:promql/parser/lex.go.
    fn scan_number(&mut self) -> bool {
        let start = self.at;
        let hex = self.bump_if(|c| c == '0') && self.bump_if(|c| matches!(c, 'x' | 'X'));
        let digit = |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        if hex {
            self.bump_if(|c| c == '_');
        }
        // A point in front is not counted.
        self.bump_if(|c| c == '.');
        self.bump_if(digit);
        let (mut point, mut exponent) = (false, false);
        while let Some(c) = self.peek().filter(|c| digit(*c) || matches!(c, '.' | '_' | 'e' | 'E')) {
            match c {
                '.' => {
                    self.bump();
                    if std::mem::replace(&mut point, true) || self.bump_if(|c| matches!(c, '_' | '.')) || hex {
                        return false;
                    }
                }
                'e' | 'E' => {
                    self.bump();
                    if std::mem::replace(&mut exponent, true) {
                        return false;
                    }
                    self.bump_if(|c| matches!(c, '+' | '-'));
                    if self.bump_if(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.bump();
                    if self.bump_if(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                        return false;
                    }
                }
                _ => self.skip_while(digit),
            }
        }
        self.at > start
    }

    fn duration_unit(&mut self, units: &str) -> bool {
        let hit = self.bump_if(|c| units.contains(c));
        if hit {
            self.bump_if(|c| c == 's');
        }
        hit
    }

    fn text(&mut self, quote: char) -> Result<Kind, String> {
        loop {
            match self.bump() {
                Some(c) if c == quote => return Ok(Kind::Text),
                None if quote == '`' => return Err("unterminated raw string".to_owned()),
                None => return Err("unterminated quoted string".to_owned()),
                Some('\n') if quote != '`' => return Err("unterminated quoted string".to_owned()),
                Some('\\') if quote != '`' => self.escape(quote)?,
                Some(_) => {}
            }
        }
    }

    /// Checks one escape sequence of a quoted string; its backslash is taken.
    fn escape(&mut self, quote: char) -> Result<(), String> {
        let Some(c) = self.bump() else { return Err("escape sequence not terminated".to_owned()) };
        let (digits, radix, most) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            c => return Err(format!("unknown escape sequence {}", code_point(c))),
        };
        if radix == 8 {
            self.at -= 1;
        }
        let mut value = 0_u64;
        for _ in 0..digits {
            let Some(c) = self.bump() else { return Err("escape sequence not terminated".to_owned()) };
            let Some(digit) = c.to_digit(radix) else {
                return Err(format!("illegal character {} in escape sequence", code_point(c)));
            };
            value = value * u64::from(radix) + u64::from(digit);
        }
        if value > most || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }
}

fn word(text: &str) -> Kind {
    let lower = text.to_ascii_lowercase();
    if let Some(op) = BinaryOp::of_word(&lower) {
        return Kind::Operator(op);
    }
    if let Some(op) = AggregateOp::of_word(&lower) {
        return Kind::Aggregator(op);
    }
    match lower.as_str() {
        "offset" => Kind::Keyword(Keyword::Offset),
        "by" => Kind::Keyword(Keyword::By),
        "without" => Kind::Keyword(Keyword::Without),
        "on" => Kind::Keyword(Keyword::On),
        "ignoring" => Kind::Keyword(Keyword::Ignoring),
        "group_left" => Kind::Keyword(Keyword::GroupLeft),
        "group_right" => Kind::Keyword(Keyword::GroupRight),
        "bool" => Kind::Keyword(Keyword::Bool),
        "start" => Kind::Keyword(Keyword::Start),
        "end" => Kind::Keyword(Keyword::End),
        "inf" | "nan" => Kind::Number,
        _ if text.contains(':') => Kind::MetricIdentifier,
        _ => Kind::Identifier,
    }
}

/// The value of a number token: `1_000`, `0x1f`, `017` (octal, as Go reads it), `1e3`, `Inf`, `NaN`.
pub(super) fn number_value(text: &str) -> Option<f64> {
    if text.ends_with('_') {
        return None;
    }
    let plain = text.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    if let (true, Ok(octal)) = (lower.len() > 1 && lower.starts_with('0'), i64::from_str_radix(&lower, 8)) {
        return Some(octal as f64);
    }
    lower.parse().ok()
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}
