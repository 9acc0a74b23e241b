//! Runs a parsed template.
//!
//! In: a [`Source`], functions, data. Out: text, or the error as Go words it. Sync and pure. Invariant: depth, steps and
//! output are bounded, so a template ends whatever it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, SmolStr, TemplateNode};

use super::html::Escaper;
use super::methods;
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

/// What runs: a template and what it may use.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// The template.
    pub source: &'a Source,
    /// Files whose `define`s it may call, the last one first.
    pub library: &'a [Arc<Source>],
    /// Functions.
    pub functions: &'a [&'a [Function]],
    /// Whether what values print is escaped as Go's `html/template` does.
    pub is_html: bool,
}

/// One run of one template.
pub struct Executor<'a> {
    source: &'a Source,
    /// The file of the body that runs now; differs from `source` in a `define` of the library.
    named: &'a Source,
    library: &'a [Arc<Source>],
    escaper: Option<Escaper>,
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
    pub fn run(program: Program<'a>, context: &'a Context<'a>, data: &Value) -> Result<String, Halt> {
        let Program { source, library, functions, is_html } = program;
        let mut run = Self {
            source,
            named: source,
            library,
            escaper: is_html.then(Escaper::default),
            functions,
            context,
            current: source.name.clone(),
            variables: vec![(SmolStr::new("$"), data.clone())],
            depth: 0,
            steps: 0,
            out: String::new(),
        };
        match run.walk(&source.main, data) {
            Ok(()) => Ok(run.out),
            Err(Stop::Halt(halt)) => Err(halt),
            Err(Stop::Break | Stop::Continue) => Ok(run.out),
        }
    }

    fn fail(&self, expr_pos: usize, text: &str, message: &str) -> Stop {
        let place = error_place(self.named, expr_pos);
        let (name, current) = (&self.named.name, &self.current);
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
                Node::Text(text) => {
                    if let Some(escaper) = &mut self.escaper {
                        escaper.pass(&text.text);
                    }
                    self.out.push_str(&text.text);
                }
                Node::Action(action) => {
                    let value = self.pipe(&action.pipe, dot)?;
                    match value {
                        _ if !action.pipe.decl.is_empty() => {}
                        value => self.print(&value),
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

    fn print(&mut self, value: &Value) {
        match (&self.escaper, value) {
            (Some(_), Value::Nil) => {}
            (Some(escaper), value) => self.out.push_str(&escaper.escaped(value)),
            (None, Value::Nil) => self.out.push_str("<no value>"),
            (None, value) => self.out.push_str(&value.to_string()),
        }
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
                Value::List(list) | Value::Named(_, list) => {
                    list.iter().enumerate().map(|(i, item)| (Value::Int(i as i64), item.clone())).collect()
                }
                Value::Map(map) => map.iter().map(|(k, v)| (Value::text(k), v.clone())).collect(),
                Value::Labels(labels) | Value::Kv(labels) => {
                    labels.iter().map(|(k, v)| (Value::text(k), Value::text(v))).collect()
                }
                Value::Int(n) => {
                    let count = (*n).clamp(0, STEPS_MAX as i64);
                    (0..count).map(|i| (Value::Int(i), Value::Int(i))).collect()
                }
                Value::Nil => Vec::new(),
                other => {
                    let message = format!("range can't iterate over {other}");
                    return Err(run.fail(branch.pipe.pos.offset, &pipe_text(run.named, &branch.pipe), &message));
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
        let Some((source, body)) = self.defined(call.name.as_str()) else {
            let pipe = call.pipe.as_ref().map_or(String::new(), |pipe| format!(" {}", pipe_text(self.named, pipe)));
            let text = format!("{{{{template {:?}{pipe}}}}}", call.name.as_str());
            let rest = self.named.text.get(call.pos.offset..).unwrap_or_default();
            let name_at = call.pos.offset + rest.find(['"', '`']).unwrap_or(0);
            return Err(self.fail(name_at, &text, &format!("template {:?} not defined", call.name.as_str())));
        };
        let variables = std::mem::replace(&mut self.variables, vec![(SmolStr::new("$"), dot.clone())]);
        let current = std::mem::replace(&mut self.current, call.name.to_string());
        let caller = std::mem::replace(&mut self.named, source);
        let result = self.scoped(|run| run.walk(body, &dot));
        self.named = caller;
        self.variables = variables;
        self.current = current;
        result
    }

    /// The body of that name: the template's own, or else that of the file which was read last. As in Go an empty body
    /// does not take the place of one that says something, and a file bears its own name.
    fn defined(&self, name: &str) -> Option<(&'a Source, &'a ListNode)> {
        let sources = std::iter::once(self.source).chain(self.library.iter().rev().map(Arc::as_ref));
        let mut found = sources.filter_map(|source| {
            let whole = (source.name == name && !std::ptr::eq(source, self.source)).then_some(&source.main);
            source.defined.get(name).or(whole).map(|body| (source, body))
        });
        let first = found.next()?;
        let says = |body: &ListNode| !body.nodes.iter().all(|n| matches!(n, Node::Text(t) if t.text.trim().is_empty()));
        if says(first.1) { Some(first) } else { found.find(|(_, body)| says(body)).or(Some(first)) }
    }

    fn pipe(&mut self, pipe: &PipeNode, dot: &Value) -> Run<Value> {
        let value = self.pipe_value(pipe, dot)?;
        if let Some(name) = pipe.decl.first() {
            if pipe.is_assign && !self.variables.iter().any(|(known, _)| known == name) {
                return Err(self.fail(pipe.pos.offset, name, &format!("undefined variable: {name}")));
            }
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
        let source = self.named;
        let whole = || command_text(source, command);
        match first {
            Expr::Identifier(pos, name) => self.call(name, (pos.offset, &whole), args, dot, piped),
            Expr::Chain(pos, inner, fields) if matches!(inner.as_ref(), Expr::Identifier(..)) => {
                let value = match inner.as_ref() {
                    Expr::Identifier(pos, name) => self.call(name, (pos.offset, &whole), args, dot, piped)?,
                    inner => self.value(inner, dot)?,
                };
                self.fields(value, fields, pos.offset, first)
            }
            Expr::Nil(pos) => Err(self.fail(pos.offset, "nil", "nil is not a command")),
            _ => self.alone(command, first, dot, &piped),
        }
    }

    fn alone(&mut self, command: &CommandNode, first: &Expr, dot: &Value, piped: &Option<Value>) -> Run<Value> {
        if command.args.len() > 1 || piped.is_some() {
            if let Some((receiver, method)) = self.receiver(first, dot)? {
                let mut values = Vec::with_capacity(command.args.len());
                for arg in &command.args[1..] {
                    values.push(self.value(arg, dot)?);
                }
                values.extend(piped.clone());
                let text = expr_text(self.named, first);
                if let Some(result) = methods::call(&receiver, &method, &values) {
                    return result.map_err(|message| self.fail(error_offset(first), &text, &message));
                }
                let message = format!("{method} has arguments but cannot be invoked as function");
                return Err(self.fail(error_offset(first), &text, &message));
            }
            let text = expr_text(self.named, first);
            let message = format!("can't give argument to non-function {text}");
            return Err(self.fail(first.pos().offset, &text, &message));
        }
        self.value(first, dot)
    }

    /// What `.a.b.Method` calls and on what; `None` when it is not of that form.
    fn receiver(&mut self, expr: &Expr, dot: &Value) -> Run<Option<(Value, SmolStr)>> {
        let (base, fields) = match expr {
            Expr::Field(_, fields) => (dot.clone(), fields),
            Expr::Variable(pos, name, fields) if !fields.is_empty() => {
                (self.value(&Expr::Variable(*pos, name.clone(), Default::default()), dot)?, fields)
            }
            Expr::Chain(_, inner, fields) => (self.value(inner, dot)?, fields),
            _ => return Ok(None),
        };
        let Some((method, before)) = fields.split_last() else { return Ok(None) };
        Ok(Some((self.fields(base, before, error_offset(expr), expr)?, method.clone())))
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
        let text = arg.map_or_else(place.1, |arg| expr_text(self.named, arg));
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
            let named = |message: String| self.fail(at, &expr_text(self.named, whole), &message);
            value = match methods::call(&value, field, &[]) {
                Some(result) => result.map_err(named)?,
                None => value.field(field).map_err(named)?,
            };
        }
        Ok(value)
    }
}

/// Named bodies of one source.
pub type Defined = BTreeMap<String, ListNode>;
