//! Reads Find and Hide expressions: text → tokens → [`Term`], by recursive descent of bounded depth.

use super::{FindError, NUMBERS, Op, TEXTS, Term, Unit, WORDS};

/// Nesting of parentheses and `not`.
const DEPTH_LIMIT: usize = 64;
/// Bytes of an expression.
const LENGTH_LIMIT: usize = 4096;

/// Reads a whole expression.
pub(super) fn term(text: &str) -> Result<Term, FindError> {
    if text.len() > LENGTH_LIMIT {
        return Err(FindError { position: LENGTH_LIMIT, message: "the expression is too long".to_owned() });
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.chars().count(), depth: 0 };
    let term = parser.any_of()?;
    match parser.tokens.get(parser.at) {
        None => Ok(term),
        Some((position, _)) => {
            Err(FindError { position: *position, message: "expected `and`, `or` or the end".to_owned() })
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Open,
    Close,
    Bang,
    Op(Op),
    Word(String),
    Quoted(String),
}

/// The parts of a text, each with the characters before it.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FindError> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = chars.get(at).copied() {
        let start = at;
        at += 1;
        let followed_by_equals = chars.get(at) == Some(&'=');
        let mut op = |bare: Option<Op>, with_equals: Op| match (followed_by_equals, bare) {
            (true, _) => {
                at += 1;
                Some(with_equals)
            }
            (false, bare) => bare,
        };
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '=' => Token::Op(op(Some(Op::Equal), Op::Equal).unwrap_or(Op::Equal)),
            '<' => Token::Op(op(Some(Op::Less), Op::AtMost).unwrap_or(Op::Less)),
            '>' => Token::Op(op(Some(Op::Greater), Op::AtLeast).unwrap_or(Op::Greater)),
            '!' => op(None, Op::NotEqual).map_or(Token::Bang, Token::Op),
            '"' | '\'' => {
                let length = chars[at..].iter().position(|other| *other == c).ok_or_else(|| FindError {
                    position: start,
                    message: format!("this quote is never closed with {c}"),
                })?;
                let inner = chars[at..at + length].iter().collect();
                at += length + 1;
                Token::Quoted(inner)
            }
            _ => {
                let ends = |c: &char| c.is_whitespace() || "()=<>!\"'".contains(*c);
                at += chars[at..].iter().position(ends).unwrap_or(chars.len() - at);
                Token::Word(chars[start..at].iter().collect())
            }
        };
        tokens.push((start, token));
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
    depth: usize,
}

impl Parser {
    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(position, _)| *position)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, FindError> {
        Err(FindError { position: self.position(), message: message.into() })
    }

    fn next_is_word(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at), Some((_, Token::Word(text))) if text.eq_ignore_ascii_case(word))
    }

    fn any_of(&mut self) -> Result<Term, FindError> {
        let mut term = self.all_of()?;
        while self.next_is_word("or") {
            self.at += 1;
            term = Term::Or(Box::new(term), Box::new(self.all_of()?));
        }
        Ok(term)
    }

    fn all_of(&mut self) -> Result<Term, FindError> {
        let mut term = self.unary()?;
        while self.next_is_word("and") {
            self.at += 1;
            term = Term::And(Box::new(term), Box::new(self.unary()?));
        }
        Ok(term)
    }

    fn unary(&mut self) -> Result<Term, FindError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return self.fail("nested too deeply");
        }
        let term = if self.next_is_word("not") || matches!(self.tokens.get(self.at), Some((_, Token::Bang))) {
            self.at += 1;
            Term::Not(Box::new(self.unary()?))
        } else if matches!(self.tokens.get(self.at), Some((_, Token::Open))) {
            self.at += 1;
            let inner = self.any_of()?;
            if !matches!(self.tokens.get(self.at), Some((_, Token::Close))) {
                return self.fail("expected `)`");
            }
            self.at += 1;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn comparison(&mut self) -> Result<Term, FindError> {
        let Some((_, Token::Word(word))) = self.tokens.get(self.at).cloned() else {
            return self.fail("expected a field like `rate`, `errors`, `name`, or a word like `healthy`");
        };
        let name = word.to_ascii_lowercase();
        let Some((_, Token::Op(op))) = self.tokens.get(self.at + 1).cloned() else {
            return match WORDS.iter().find(|(known, _)| *known == name) {
                Some((_, word)) => {
                    self.at += 1;
                    Ok(Term::Is(*word))
                }
                None if is_field(&name) => {
                    self.at += 1;
                    self.fail(format!("`{name}` needs a comparison, like `{name} = …`"))
                }
                None => self.fail(unknown(&word)),
            };
        };
        if let Some((_, field, unit)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
            self.at += 2;
            let value = self.number(*unit)?;
            return Ok(Term::Number(*field, op, value));
        }
        let Some((_, field)) = TEXTS.iter().find(|(known, _)| *known == name) else { return self.fail(unknown(&word)) };
        self.at += 1;
        let equal = match op {
            Op::Equal => true,
            Op::NotEqual => false,
            _ => return self.fail(format!("`{name}` is a text: compare it with `=` or `!=`")),
        };
        self.at += 1;
        match self.tokens.get(self.at).cloned() {
            Some((_, Token::Word(text) | Token::Quoted(text))) => {
                self.at += 1;
                Ok(Term::Text(*field, equal, text))
            }
            _ => self.fail("expected a text, perhaps with `*`"),
        }
    }

    fn number(&mut self, unit: Unit) -> Result<f64, FindError> {
        let Some((_, Token::Word(text))) = self.tokens.get(self.at).cloned() else {
            return self.fail("expected a number");
        };
        let digits = text.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | '-')).count();
        let (number, suffix) = text.split_at(digits);
        let factor = match (unit, suffix) {
            (_, "") | (Unit::Percent, "%") | (Unit::Milliseconds, "ms") | (Unit::Plain, "/s") => Some(1.0),
            (Unit::Milliseconds, "s") => Some(1000.0),
            (Unit::Milliseconds, "us") => Some(0.001),
            (Unit::Plain, "/m") => Some(1.0 / 60.0),
            (Unit::Plain, "k" | "kB" | "K") => Some(1e3),
            (Unit::Plain, "M" | "MB") => Some(1e6),
            (Unit::Plain, "G" | "GB") => Some(1e9),
            _ => None,
        };
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) => {
                self.at += 1;
                Ok(number * factor)
            }
            (Ok(_), None) => self.fail(format!("`{suffix}` is no unit here, write {}", units(unit))),
            (Err(_), _) => self.fail(format!("`{text}` is no number, write {}", units(unit))),
        }
    }
}

fn units(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => "`1%`",
        Unit::Milliseconds => "`500ms` or `0.5s`",
        Unit::Plain => "`10`, `10/s`, `600/m` or `5k`",
    }
}

fn is_field(name: &str) -> bool {
    NUMBERS.iter().any(|(known, ..)| *known == name) || TEXTS.iter().any(|(known, _)| *known == name)
}

fn unknown(word: &str) -> String {
    let all = WORDS.iter().map(|(name, _)| *name).chain(NUMBERS.iter().map(|(name, ..)| *name));
    let all = all.chain(TEXTS.iter().map(|(name, _)| *name));
    let word: String = word.chars().take(40).collect();
    let nearest = all.min_by_key(|known| strsim::damerau_levenshtein(known, &word.to_ascii_lowercase()));
    format!("`{word}` is no field or word; the nearest is `{}`", nearest.unwrap_or("rate"))
}
