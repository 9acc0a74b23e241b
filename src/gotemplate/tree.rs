//! The parsed text of a template: checked at load time as Go checks it, and printed as Go prints it in errors.
//!
//! In: text. Out: [`Source`], or Go's parse error. Pure. Invariant: in a [`Source`] every function and variable is known.

use std::collections::BTreeMap;

use gotmpl::TemplateError;
use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode, SmolStr};

use super::exec::Defined;
use super::printf::quoted;

/// A parsed template and what it defines.
#[derive(Debug)]
pub struct Source {
    /// The name that errors show.
    pub name: String,
    /// The whole text, to find lines and columns in.
    pub text: String,
    /// What runs.
    pub main: ListNode,
    /// `{{define}}` and `{{block}}` bodies.
    pub defined: Defined,
}

impl Source {
    /// Parses and checks. `known` says whether a function exists.
    ///
    /// # Errors
    /// Go's text: `template: name:1: function "foo" not defined`.
    pub fn parse(name: &str, text: String, known: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let parsed = Parser::with_name(Some(name), &text, "{{", "}}").and_then(Parser::parse);
        let (main, definitions) = parsed.map_err(|error| parse_error(name, &error))?;
        let mut defined: Defined = BTreeMap::new();
        for definition in definitions {
            defined.insert(definition.name.to_string(), definition.body);
        }
        let source = Self { name: name.to_owned(), text, main, defined };
        check_ends(&source)?;
        for body in std::iter::once(&source.main).chain(source.defined.values()) {
            let mut check = Check { source: &source, known, variables: vec![SmolStr::new("$")], ranges: 0 };
            check.list(body)?;
        }
        Ok(source)
    }
}

fn parse_error(name: &str, error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            let message = message.replace("unterminated string", "unterminated quoted string");
            format!("template: {name}:{line}: {message}")
        }
        other => format!("template: {name}: {other}"),
    }
}

/// `line:column` of an offset as Go counts: lines from one, bytes from zero.
pub fn error_place(source: &Source, offset: usize) -> String {
    let before = &source.text.as_bytes()[..offset.min(source.text.len())];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = before.iter().rev().take_while(|b| **b != b'\n').count();
    format!("{line}:{column}")
}

struct Check<'a> {
    source: &'a Source,
    known: &'a dyn Fn(&str) -> bool,
    variables: Vec<SmolStr>,
    /// How many `range`s stand around what is checked.
    ranges: usize,
}

impl Check<'_> {
    fn error(&self, offset: usize, message: &str) -> String {
        let place = error_place(self.source, offset);
        let line = place.split(':').next().unwrap_or("1");
        format!("template: {}:{line}: {message}", self.source.name)
    }

    fn list(&mut self, list: &ListNode) -> Result<(), String> {
        for node in &list.nodes {
            match node {
                Node::Action(action) => self.pipe(&action.pipe)?,
                Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                    let known = self.variables.len();
                    self.pipe(&branch.pipe)?;
                    let ranges = self.ranges;
                    self.ranges += usize::from(matches!(node, Node::Range(_)));
                    self.list(&branch.body)?;
                    self.ranges = ranges;
                    if let Some(body) = &branch.else_body {
                        self.list(body)?;
                    }
                    self.variables.truncate(known);
                }
                Node::Template(call) => {
                    if let Some(pipe) = &call.pipe {
                        self.pipe(pipe)?;
                    }
                }
                Node::List(list) => self.list(list)?,
                Node::Break(pos) if self.ranges == 0 => {
                    return Err(self.error(pos.offset, "{{break}} outside {{range}}"));
                }
                Node::Continue(pos) if self.ranges == 0 => {
                    return Err(self.error(pos.offset, "{{continue}} outside {{range}}"));
                }
                Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), String> {
        for (i, command) in pipe.commands.iter().enumerate() {
            let literal = |arg: &Expr| {
                matches!(arg, Expr::Bool(..) | Expr::Dot(_) | Expr::Nil(_) | Expr::Number(..) | Expr::String(..))
            };
            if i > 0 && command.args.first().is_some_and(literal) {
                let message = format!("non executable command in pipeline stage {}", i + 1);
                return Err(self.error(command.pos.offset, &message));
            }
            for arg in &command.args {
                self.expr(arg)?;
            }
        }
        // Go takes an assignment for a declaration here, and fails when it is run.
        self.variables.extend(pipe.decl.iter().cloned());
        Ok(())
    }

    fn expr(&mut self, expr: &Expr) -> Result<(), String> {
        match expr {
            Expr::Identifier(pos, name) if !(self.known)(name) => {
                Err(self.error(pos.offset, &format!("function {name:?} not defined")))
            }
            Expr::Variable(pos, name, _) => self.variable(name, pos.offset),
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            _ => Ok(()),
        }
    }

    fn variable(&self, name: &SmolStr, offset: usize) -> Result<(), String> {
        match self.variables.contains(name) {
            true => Ok(()),
            false => Err(self.error(offset, &format!("undefined variable {:?}", name.as_str()))),
        }
    }
}

/// The parser takes a text whose blocks are not all closed; Go does not.
fn check_ends(source: &Source) -> Result<(), String> {
    let mut rest = source.text.as_str();
    let mut open: Vec<String> = Vec::new();
    while let Some(at) = rest.find("{{") {
        rest = &rest[at + 2..];
        let action = rest.strip_prefix('-').unwrap_or(rest).trim_start();
        let word: String = action.chars().take_while(char::is_ascii_alphabetic).collect();
        match word.as_str() {
            "if" | "range" | "with" | "define" | "block" => open.push(word),
            "end" if open.pop().is_some() => {}
            "else" if matches!(open.last().map(String::as_str), Some("if" | "range" | "with")) => {}
            "end" | "else" => {
                let line = 1 + source.text[..source.text.len() - rest.len()].matches('\n').count();
                return Err(format!("template: {}:{line}: unexpected {{{{{word}}}}}", source.name));
            }
            _ => {}
        }
        rest = &rest[action_length(rest)..];
    }
    match open.is_empty() {
        true => Ok(()),
        false => Err(format!("template: {}:{}: unexpected EOF", source.name, 1 + source.text.matches('\n').count())),
    }
}

/// How far it is to the end of an action: past its `}}`, which a quoted text or a comment may hold too.
fn action_length(text: &str) -> usize {
    if text.trim_start_matches('-').trim_start().starts_with("/*") {
        return text.find("*/").map_or(text.len(), |at| at + 2);
    }
    let (mut quote, mut escaped) = (None, false);
    for (i, c) in text.char_indices() {
        match quote {
            Some('`') if c == '`' => quote = None,
            Some('"' | '\'') if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if text[i..].starts_with("}}") => return i + 2,
            None => {}
        }
    }
    text.len()
}

/// Where Go places an error about an operand: a chain of fields at its second piece.
pub fn error_offset(expr: &Expr) -> usize {
    match expr {
        Expr::Field(pos, fields) => match fields.as_slice() {
            [first, _, ..] => pos.offset + 1 + first.len(),
            _ => pos.offset,
        },
        Expr::Variable(pos, name, fields) if !fields.is_empty() => pos.offset + name.len(),
        other => other.pos().offset,
    }
}

/// A command as Go prints it in `at <…>`.
pub fn command_text(source: &Source, command: &CommandNode) -> String {
    let parts: Vec<String> = command.args.iter().map(|arg| expr_text(source, arg)).collect();
    parts.join(" ")
}

/// A pipeline as Go prints it.
pub fn pipe_text(source: &Source, pipe: &PipeNode) -> String {
    let commands: Vec<String> = pipe.commands.iter().map(|command| command_text(source, command)).collect();
    let commands = commands.join(" | ");
    match pipe.decl.as_slice() {
        [] => commands,
        names => {
            let names: Vec<&str> = names.iter().map(SmolStr::as_str).collect();
            format!("{} {} {commands}", names.join(", "), if pipe.is_assign { "=" } else { ":=" })
        }
    }
}

/// An operand as Go prints it; a number as it is written.
pub fn expr_text(source: &Source, expr: &Expr) -> String {
    let dotted = |fields: &[SmolStr]| fields.iter().map(|field| format!(".{field}")).collect::<String>();
    match expr {
        Expr::Dot(_) => ".".to_owned(),
        Expr::Field(_, fields) => dotted(fields),
        Expr::Variable(_, name, fields) => format!("{name}{}", dotted(fields)),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::String(_, text) => quoted(text),
        Expr::Number(pos, _) => {
            let rest = source.text.get(pos.offset..).unwrap_or_default();
            rest.split(|c: char| c.is_whitespace() || matches!(c, '}' | ')' | '|'))
                .next()
                .unwrap_or_default()
                .to_owned()
        }
        Expr::Bool(_, b) => b.to_string(),
        Expr::Nil(_) => "nil".to_owned(),
        Expr::Pipe(_, pipe) => format!("({})", pipe_text(source, pipe)),
        Expr::Chain(_, inner, fields) => format!("{}{}", expr_text(source, inner), dotted(fields)),
    }
}
