//! The parsed text of a template: checked at load time as Go checks it, and printed as Go prints it in errors.
//!
//! In: text. Out: [`Source`], or Go's parse error. Pure. Invariant: in a [`Source`] every function and variable is known.

use std::collections::BTreeMap;

use gotmpl::TemplateError;
use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Number, Parser, PipeNode, SmolStr};

use super::exec::Defined;
use super::printf::quoted;
use super::value::Value;

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
        for body in std::iter::once(&source.main).chain(source.defined.values()) {
            let mut check = Check { source: &source, known, variables: vec![SmolStr::new("$")] };
            check.list(body)?;
        }
        Ok(source)
    }
}

fn parse_error(name: &str, error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
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
                    self.list(&branch.body)?;
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
                Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), String> {
        for command in &pipe.commands {
            for arg in &command.args {
                self.expr(arg)?;
            }
        }
        if pipe.is_assign {
            for name in &pipe.decl {
                self.variable(name, pipe.pos.offset)?;
            }
        } else {
            self.variables.extend(pipe.decl.iter().cloned());
        }
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

/// A command as Go prints it in `at <…>`.
pub fn command_text(command: &CommandNode) -> String {
    let parts: Vec<String> = command.args.iter().map(expr_text).collect();
    parts.join(" ")
}

/// A pipeline as Go prints it.
pub fn pipe_text(pipe: &PipeNode) -> String {
    let commands: Vec<String> = pipe.commands.iter().map(command_text).collect();
    let commands = commands.join(" | ");
    match pipe.decl.as_slice() {
        [] => commands,
        names => {
            let names: Vec<&str> = names.iter().map(SmolStr::as_str).collect();
            format!("{} {} {commands}", names.join(", "), if pipe.is_assign { "=" } else { ":=" })
        }
    }
}

/// An operand as Go prints it.
pub fn expr_text(expr: &Expr) -> String {
    let dotted = |fields: &[SmolStr]| fields.iter().map(|field| format!(".{field}")).collect::<String>();
    match expr {
        Expr::Dot(_) => ".".to_owned(),
        Expr::Field(_, fields) => dotted(fields),
        Expr::Variable(_, name, fields) => format!("{name}{}", dotted(fields)),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::String(_, text) => quoted(text),
        Expr::Number(_, Number::Int(n)) => n.to_string(),
        Expr::Number(_, Number::Uint(n)) => n.to_string(),
        Expr::Number(_, Number::Float(v)) => Value::Float(*v).to_string(),
        Expr::Bool(_, b) => b.to_string(),
        Expr::Nil(_) => "nil".to_owned(),
        Expr::Pipe(_, pipe) => format!("({})", pipe_text(pipe)),
        Expr::Chain(_, inner, fields) => format!("{}{}", expr_text(inner), dotted(fields)),
    }
}
