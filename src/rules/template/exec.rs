//! Runs a parsed template.
//!
//! In: a [`Source`], functions, data. Out: text, or the error as Go words it. Sync and pure. Invariant: depth, steps and
//! output are bounded, so a template ends whatever it says.

use std::collections::BTreeMap;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, SmolStr, TemplateNode};

use super::layout::go_format;
use super::tree::{Source, command_text, error_offset, error_place, expr_text, pipe_text};
use super::{Context, Function, FunctionError, Value};

const DEPTH_MAX: usize = 100;
const STEPS_MAX: usize = 1_000_000;
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// An error, worded as Go does, without `error executing template`.
    Error(String),
    /// The answer of this query is needed: fetch it and run again.
    QueryNeeded(String),
}

enum Stop {
    Halt(Halt),
    Break,
    Continue,
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

type Run<T> = Result<T, Stop>;

/// One run of one template.
pub struct Executor<'a> {
    source: &'a Source,
    functions: &'a [&'a [Function]],
    context: &'a Context<'a>,
    /// The template that runs now: the main one, or a `define`d one.
    current: String,
    variables: Vec<(SmolStr, Value)>,
    depth: usize,
    steps: usize,
    out: String,
}

impl<'a> Executor<'a> {
    /// Runs the main template on `data`.
    ///
    /// # Errors
    /// When it fails, passes a bound, or needs the answer of a query.
    pub fn run(
        source: &'a Source,
        functions: &'a [&'a [Function]],
        context: &'a Context<'a>,
        data: &Value,
    ) -> Result<String, Halt> {
        let variables = vec![(SmolStr::new("$"), data.clone())];
        let current = source.name.clone();
        let mut run = Self { source, functions, context, current, variables, depth: 0, steps: 0, out: String::new() };
        match run.walk(&source.main, data) {
            Ok(()) => Ok(run.out),
            Err(Stop::Halt(halt)) => Err(halt),
            Err(Stop::Break | Stop::Continue) => Ok(run.out),
        }
    }

    fn fail(&self, expr_pos: usize, text: &str, message: &str) -> Stop {
        let place = error_place(self.source, expr_pos);
        let (name, current) = (&self.source.name, &self.current);
        Halt::Error(format!("template: {name}:{place}: executing {current:?} at <{text}>: {message}")).into()
    }

    fn step(&mut self, pos: usize) -> Run<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX || self.depth > DEPTH_MAX || self.out.len() > OUTPUT_BYTES_MAX {
            let limit = match () {
                () if self.steps > STEPS_MAX => format!("the template takes more than {STEPS_MAX} steps"),
                () if self.depth > DEPTH_MAX => "exceeded maximum template depth".to_owned(),
                () => format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"),
            };
            return Err(self.fail(pos, "…", &limit));
        }
        Ok(())
    }

    fn walk(&mut self, list: &ListNode, dot: &Value) -> Run<()> {
        for node in &list.nodes {
            self.step(list.pos.offset)?;
            match node {
                Node::Text(text) => self.out.push_str(&text.text),
                Node::Action(action) => {
                    let value = self.pipe(&action.pipe, dot)?;
                    match value {
                        _ if !action.pipe.decl.is_empty() => {}
                        Value::Nil => self.out.push_str("<no value>"),
                        value => self.out.push_str(&value.to_string()),
                    }
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Template(call) => self.template(call, dot)?,
                Node::List(list) => self.walk(list, dot)?,
                Node::Define(_) => {}
                Node::Break(_) => return Err(Stop::Break),
                Node::Continue(_) => return Err(Stop::Continue),
            }
        }
        Ok(())
    }

    /// Runs `body` one level deeper; what it declares is forgotten after it.
    fn scoped<T>(&mut self, body: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        let known = self.variables.len();
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        self.variables.truncate(known);
        result
    }

    fn branch(&mut self, branch: &BranchNode, dot: &Value, with: bool) -> Run<()> {
        self.scoped(|run| {
            let value = run.pipe(&branch.pipe, dot)?;
            match (value.is_true(), &branch.else_body) {
                (true, _) => run.walk(&branch.body, if with { &value } else { dot }),
                (false, Some(body)) => run.walk(body, dot),
                (false, None) => Ok(()),
            }
        })
    }

    fn range(&mut self, branch: &BranchNode, dot: &Value) -> Run<()> {
        self.scoped(|run| {
            let over = run.pipe_value(&branch.pipe, dot)?;
            let items: Vec<(Value, Value)> = match &over {
                Value::List(list) => {
                    list.iter().enumerate().map(|(i, item)| (Value::Int(i as i64), item.clone())).collect()
                }
                Value::Map(map) => map.iter().map(|(k, v)| (Value::text(k), v.clone())).collect(),
                Value::Labels(labels) => labels.iter().map(|(k, v)| (Value::text(k), Value::text(v))).collect(),
                Value::Int(n) => {
                    let count = (*n).clamp(0, STEPS_MAX as i64);
                    (0..count).map(|i| (Value::Int(i), Value::Int(i))).collect()
                }
                Value::Nil => Vec::new(),
                other => {
                    let message = format!("range can't iterate over {other}");
                    return Err(run.fail(branch.pipe.pos.offset, &pipe_text(run.source, &branch.pipe), &message));
                }
            };
            if items.is_empty() {
                return branch.else_body.as_ref().map_or(Ok(()), |body| run.walk(body, dot));
            }
            for (key, item) in items {
                match run.scoped(|run| run.iteration(branch, key, item)) {
                    Err(Stop::Break) => break,
                    Err(Stop::Continue) => {}
                    other => other?,
                }
            }
            Ok(())
        })
    }

    fn iteration(&mut self, branch: &BranchNode, key: Value, item: Value) -> Run<()> {
        match branch.pipe.decl.as_slice() {
            [] => {}
            [only] => self.bind(only, item.clone(), branch.pipe.is_assign),
            [first, second, ..] => {
                self.bind(first, key, branch.pipe.is_assign);
                self.bind(second, item.clone(), branch.pipe.is_assign);
            }
        }
        self.walk(&branch.body, &item)
    }

    fn bind(&mut self, name: &SmolStr, value: Value, assign: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| assign && known == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name.clone(), value)),
        }
    }

    fn template(&mut self, call: &TemplateNode, dot: &Value) -> Run<()> {
        self.step(call.pos.offset)?;
        let dot = match &call.pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let Some(body) = self.source.defined.get(call.name.as_str()) else {
            let pipe = call.pipe.as_ref().map_or(String::new(), |pipe| format!(" {}", pipe_text(self.source, pipe)));
            let text = format!("{{{{template {:?}{pipe}}}}}", call.name.as_str());
            let rest = self.source.text.get(call.pos.offset..).unwrap_or_default();
            let name_at = call.pos.offset + rest.find(['"', '`']).unwrap_or(0);
            return Err(self.fail(name_at, &text, &format!("template {:?} not defined", call.name.as_str())));
        };
        let variables = std::mem::replace(&mut self.variables, vec![(SmolStr::new("$"), dot.clone())]);
        let current = std::mem::replace(&mut self.current, call.name.to_string());
        let result = self.scoped(|run| run.walk(body, &dot));
        self.variables = variables;
        self.current = current;
        result
    }

    fn pipe(&mut self, pipe: &PipeNode, dot: &Value) -> Run<Value> {
        let value = self.pipe_value(pipe, dot)?;
        if let Some(name) = pipe.decl.first() {
            self.bind(name, value.clone(), pipe.is_assign);
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &PipeNode, dot: &Value) -> Run<Value> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &CommandNode, dot: &Value, piped: Option<Value>) -> Run<Value> {
        let Some((first, args)) = command.args.split_first() else { return Ok(Value::Nil) };
        if (!args.is_empty() || piped.is_some())
            && let Some(text) = self.formatted(command, dot, &piped)?
        {
            return Ok(text);
        }
        let source = self.source;
        let whole = || command_text(source, command);
        match first {
            Expr::Identifier(pos, name) => self.call(name, (pos.offset, &whole), args, dot, piped),
            Expr::Chain(pos, inner, fields) => {
                let value = match inner.as_ref() {
                    Expr::Identifier(pos, name) => self.call(name, (pos.offset, &whole), args, dot, piped)?,
                    inner => self.alone(command, inner, dot, &piped)?,
                };
                self.fields(value, fields, pos.offset, first)
            }
            Expr::Nil(pos) => Err(self.fail(pos.offset, "nil", "nil is not a command")),
            _ => self.alone(command, first, dot, &piped),
        }
    }

    fn alone(&mut self, command: &CommandNode, first: &Expr, dot: &Value, piped: &Option<Value>) -> Run<Value> {
        if command.args.len() > 1 || piped.is_some() {
            let text = expr_text(self.source, first);
            let message = format!("can't give argument to non-function {text}");
            return Err(self.fail(first.pos().offset, &text, &message));
        }
        self.value(first, dot)
    }

    /// `TIME.Format "layout"`, the one method with an argument; `None` when the command is nothing of that.
    fn formatted(&mut self, command: &CommandNode, dot: &Value, piped: &Option<Value>) -> Run<Option<Value>> {
        let [first, args @ ..] = command.args.as_slice() else { return Ok(None) };
        let (Expr::Chain(_, _, fields) | Expr::Variable(_, _, fields) | Expr::Field(_, fields)) = first else {
            return Ok(None);
        };
        let Some((method, fields)) = fields.split_last().filter(|(method, _)| method.as_str() == "Format") else {
            return Ok(None);
        };
        let receiver = match first {
            Expr::Chain(pos, inner, _) => Expr::Chain(*pos, inner.clone(), fields.to_vec()),
            Expr::Variable(pos, name, _) => Expr::Variable(*pos, name.clone(), fields.to_vec()),
            _ => Expr::Field(first.pos(), fields.to_vec()),
        };
        let Value::Time(at) = self.value(&receiver, dot)? else { return Ok(None) };
        let mut given = Vec::with_capacity(args.len() + 1);
        for arg in args {
            given.push(self.value(arg, dot)?);
        }
        given.extend(piped.clone());
        match given.as_slice() {
            [Value::String(layout)] => Ok(Some(Value::text(&go_format(at, layout)))),
            [other] => {
                let message = format!("wrong type for value; expected string; got {}", other.type_name());
                Err(self.fail(first.pos().offset, &expr_text(self.source, first), &message))
            }
            _ => {
                let message = format!("wrong number of args for {method}: want 1 got {}", given.len());
                Err(self.fail(first.pos().offset, &expr_text(self.source, first), &message))
            }
        }
    }

    fn call(
        &mut self,
        name: &str,
        place: (usize, &dyn Fn() -> String),
        args: &[Expr],
        dot: &Value,
        piped: Option<Value>,
    ) -> Run<Value> {
        self.step(place.0)?;
        if name == "and" || name == "or" {
            if args.is_empty() && piped.is_none() {
                return Err(self.fail(
                    place.0,
                    name,
                    &format!("wrong number of args for {name}: want at least 1 got 0"),
                ));
            }
            return self.lazy(name == "and", args, dot, piped);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.value(arg, dot)?);
        }
        values.extend(piped);
        let Some(function) = self.functions.iter().flat_map(|table| table.iter()).find(|f| f.name == name) else {
            return Err(self.fail(place.0, name, &format!("{name:?} is not a defined function")));
        };
        if let Some(message) = function.wrong_count(values.len()) {
            return Err(self.fail(place.0, name, &message));
        }
        (function.call)(self.context, &values).map_err(|error| match error {
            FunctionError::Failed(message) => {
                self.fail(place.0, &(place.1)(), &format!("error calling {name}: {message}"))
            }
            FunctionError::WrongArgument { index, expected, got } => {
                self.wrong_argument(args.get(index), &place, expected, got)
            }
            FunctionError::QueryNeeded(query) => Halt::QueryNeeded(query).into(),
        })
    }

    /// Go points at the argument where it can.
    fn wrong_argument(
        &self,
        arg: Option<&Expr>,
        place: &(usize, &dyn Fn() -> String),
        expected: &str,
        got: &str,
    ) -> Stop {
        let text = arg.map_or_else(place.1, |arg| expr_text(self.source, arg));
        let message = match arg {
            Some(Expr::Number(..) | Expr::Bool(..) | Expr::String(..)) => format!("expected {expected}; found {text}"),
            _ if got == "nil" => format!("invalid value; expected {expected}"),
            _ => format!("wrong type for value; expected {expected}; got {got}"),
        };
        self.fail(arg.map_or(place.0, error_offset), &text, &message)
    }

    /// `and` and `or` look at no more operands than they must.
    fn lazy(&mut self, and: bool, args: &[Expr], dot: &Value, piped: Option<Value>) -> Run<Value> {
        let mut last = Value::Nil;
        for arg in args {
            last = self.value(arg, dot)?;
            if last.is_true() != and {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn value(&mut self, expr: &Expr, dot: &Value) -> Run<Value> {
        match expr {
            Expr::Dot(_) => Ok(dot.clone()),
            Expr::Field(_, fields) => self.fields(dot.clone(), fields, error_offset(expr), expr),
            Expr::Variable(pos, name, fields) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, v)| v.clone());
                let Some(value) = known else {
                    return Err(self.fail(pos.offset, name, &format!("undefined variable: {name}")));
                };
                self.fields(value, fields, error_offset(expr), expr)
            }
            Expr::Identifier(pos, name) => self.call(name, (pos.offset, &|| name.to_string()), &[], dot, None),
            Expr::String(_, text) => Ok(Value::String(text.clone())),
            Expr::Number(_, Number::Int(n)) => Ok(Value::Int(*n)),
            Expr::Number(_, Number::Float(v)) => Ok(Value::Float(*v)),
            Expr::Number(pos, Number::Uint(n)) => {
                Err(self.fail(pos.offset, &n.to_string(), &format!("{n} overflows int")))
            }
            Expr::Bool(_, b) => Ok(Value::Bool(*b)),
            Expr::Nil(_) => Ok(Value::Nil),
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot),
            Expr::Chain(pos, inner, fields) => {
                let value = self.value(inner, dot)?;
                self.fields(value, fields, pos.offset, expr)
            }
        }
    }

    fn fields(&self, mut value: Value, fields: &[SmolStr], at: usize, whole: &Expr) -> Run<Value> {
        for field in fields {
            let named = |message: String| self.fail(at, &expr_text(self.source, whole), &message);
            value = value.field(field).map_err(named)?;
        }
        Ok(value)
    }
}

/// Named bodies of one source.
pub type Defined = BTreeMap<String, ListNode>;
