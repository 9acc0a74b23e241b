//! Operators between two expressions: arithmetic, comparison, set operations, and how series find their partners.

use super::ast::{Binary, BinaryOp, Group, Matching};
use super::error::EvalError;
use super::eval::{Evaluator, Operand, unreachable_kind};
use super::table::{ABSENT, Key, Names, Ordinals, Projection, Table, Table64, is_absent};
use crate::model::{Labels, METRIC_NAME};

/// Applies an operator to its evaluated sides.
pub(super) fn eval<'a>(
    evaluator: &Evaluator<'a>,
    node: &Binary,
    sides: (Operand<'a>, Operand<'a>),
) -> Result<Operand<'a>, EvalError> {
    Ok(match sides {
        (Operand::Scalar(left), Operand::Scalar(right)) => {
            Operand::Scalar(left.iter().zip(&right).map(|(l, r)| scalar_result(node.op, *l, *r)).collect())
        }
        (Operand::Table(table), Operand::Scalar(scalar)) => {
            Operand::Table(with_scalar(evaluator, node, (table, &scalar), false)?)
        }
        (Operand::Scalar(scalar), Operand::Table(table)) => {
            Operand::Table(with_scalar(evaluator, node, (table, &scalar), true)?)
        }
        (Operand::Table(left), Operand::Table(right)) => {
            evaluator.spend(left.values.len() + right.values.len())?;
            Operand::Table(if node.op.is_set() {
                set(evaluator, node, left, right)?
            } else {
                Match::new(evaluator, node, left, right).run()?
            })
        }
        _ => return Err(unreachable_kind("a text beside an operator")),
    })
}

fn scalar_result(op: BinaryOp, left: f64, right: f64) -> f64 {
    let (value, keep) = apply(op, left, right);
    if op.is_comparison() { f64::from(u8::from(keep)) } else { value }
}

/// The value, and whether a comparison holds.
#[inline]
fn apply(op: BinaryOp, left: f64, right: f64) -> (f64, bool) {
    match op {
        BinaryOp::Add => (left + right, true),
        BinaryOp::Sub => (left - right, true),
        BinaryOp::Mul => (left * right, true),
        BinaryOp::Div => (left / right, true),
        BinaryOp::Mod => (left % right, true),
        BinaryOp::Pow => (left.powf(right), true),
        BinaryOp::Atan2 => (left.atan2(right), true),
        BinaryOp::Equal => (left, left == right),
        BinaryOp::NotEqual => (left, left != right),
        BinaryOp::Less => (left, left < right),
        BinaryOp::Greater => (left, left > right),
        BinaryOp::LessEqual => (left, left <= right),
        BinaryOp::GreaterEqual => (left, left >= right),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => (left, false),
    }
}

/// The value that a vector's sample gets; `None` when a comparison filters it.
#[inline]
fn outcome(node: &Binary, left: f64, right: f64, kept: f64) -> Option<f64> {
    let (value, keep) = apply(node.op, left, right);
    match (node.op.is_comparison(), node.return_bool) {
        (true, true) => Some(f64::from(u8::from(keep))),
        (true, false) => keep.then_some(kept),
        (false, _) => Some(value),
    }
}

fn drops_name(node: &Binary) -> bool {
    !node.op.is_comparison() || node.return_bool
}

fn with_scalar(
    evaluator: &Evaluator<'_>,
    node: &Binary,
    (mut table, scalar): (Table, &[f64]),
    scalar_left: bool,
) -> Result<Table, EvalError> {
    evaluator.spend(table.values.len())?;
    for row in 0..table.keys.len() {
        for (value, scalar) in table.row_mut(row).iter_mut().zip(scalar) {
            if is_absent(*value) {
                continue;
            }
            let (left, right) = if scalar_left { (*scalar, *value) } else { (*value, *scalar) };
            *value = outcome(node, left, right, *value).unwrap_or(ABSENT);
        }
    }
    if drops_name(node) {
        table.drop_names(evaluator.context.names, false)?;
    } else {
        table.remove_empty();
    }
    Ok(table)
}

fn projection(matching: &Matching, names: Names) -> Projection<'_> {
    if matching.on {
        Projection::only(&matching.labels, names)
    } else {
        Projection::without(&matching.labels, false, names)
    }
}

/// The match signature of each row, as a number shared by both sides.
fn signatures(matching: &Matching, names: Names, sides: [&Table; 2]) -> ([Vec<usize>; 2], usize) {
    let mut projection = projection(matching, names);
    let mut ordinals = Ordinals::default();
    let numbered =
        sides.map(|table| table.keys.iter().map(|key| ordinals.of(projection.signature(key))).collect::<Vec<_>>());
    (numbered, ordinals.len())
}

/// `and`, `or`, `unless`.
fn set(evaluator: &Evaluator<'_>, node: &Binary, mut left: Table, mut right: Table) -> Result<Table, EvalError> {
    let names = evaluator.context.names;
    let ([left_of, right_of], count) = signatures(&node.matching, names, [&left, &right]);
    let steps = left.steps;
    let presence = |table: &Table, signature_of: &[usize]| {
        let mut present = vec![false; count * steps];
        for (row, signature) in signature_of.iter().enumerate() {
            let present = &mut present[signature * steps..(signature + 1) * steps];
            for (present, value) in present.iter_mut().zip(table.row(row)) {
                *present |= !is_absent(*value);
            }
        }
        present
    };
    let keep_where = |table: &mut Table, signature_of: &[usize], present: &[bool], wanted: bool| {
        for (row, signature) in signature_of.iter().enumerate() {
            let present = &present[signature * steps..(signature + 1) * steps];
            for (value, present) in table.row_mut(row).iter_mut().zip(present) {
                if *present != wanted {
                    *value = ABSENT;
                }
            }
        }
        table.remove_empty();
    };
    match node.op {
        BinaryOp::And => keep_where(&mut left, &left_of, &presence(&right, &right_of), true),
        BinaryOp::Unless => keep_where(&mut left, &left_of, &presence(&right, &right_of), false),
        _ => {
            keep_where(&mut right, &right_of, &presence(&left, &left_of), false);
            left.keys.append(&mut right.keys);
            left.values.append(&mut right.values);
            left.merge_same(names, false)?;
        }
    }
    Ok(left)
}

/// One matching of two vectors. `many` is the left side, or the right with `group_right`.
struct Match<'e, 'a> {
    evaluator: &'e Evaluator<'a>,
    node: &'a Binary,
    many: Table,
    one: Table,
    many_of: Vec<usize>,
    one_of: Vec<usize>,
    signatures: usize,
    /// Row of the result for each pair of rows.
    pairs: Table64<(usize, usize), usize>,
    rows: Table64<Labels, usize>,
    result: Table,
}

impl<'e, 'a> Match<'e, 'a> {
    fn new(evaluator: &'e Evaluator<'a>, node: &'a Binary, left: Table, right: Table) -> Self {
        let names = evaluator.context.names;
        let ([left_of, right_of], signatures) = signatures(&node.matching, names, [&left, &right]);
        let swap = node.matching.group == Group::OneToMany;
        let ((many, many_of), (one, one_of)) =
            if swap { ((right, right_of), (left, left_of)) } else { ((left, left_of), (right, right_of)) };
        let result = Table::with_capacity(many.steps, many.keys.len());
        let (pairs, rows) = (Table64::default(), Table64::default());
        Self { evaluator, node, many, one, many_of, one_of, signatures, pairs, rows, result }
    }

    fn run(mut self) -> Result<Table, EvalError> {
        // Partners by signature: the row on the "one" side, valid in the step of the stamp.
        let mut partner = vec![(usize::MAX, 0_usize); self.signatures];
        // Result rows written in this step by signature, to find several matches.
        let mut written = vec![usize::MAX; self.signatures];
        for step in 0..self.many.steps {
            self.evaluator.spend(self.many.keys.len() + self.one.keys.len())?;
            // Nothing on the other side finds no duplicates either, as in Prometheus.
            if (0..self.many.keys.len()).all(|row| is_absent(self.many.row(row)[step])) {
                continue;
            }
            for row in 0..self.one.keys.len() {
                if is_absent(self.one.row(row)[step]) {
                    continue;
                }
                let slot = &mut partner[self.one_of[row]];
                if slot.0 == step {
                    let other = slot.1;
                    return Err(self.duplicate(row, other));
                }
                *slot = (step, row);
            }
            for row in 0..self.many.keys.len() {
                let signature = self.many_of[row];
                if is_absent(self.many.row(row)[step]) || partner[signature].0 != step {
                    continue;
                }
                self.pair(row, partner[signature].1, step, &mut written[signature])?;
            }
        }
        self.result.remove_empty();
        if self.node.return_bool && self.evaluator.context.names == Names::DropAtEnd {
            self.result.keys.iter_mut().for_each(|key| key.drop_name = true);
        }
        Ok(self.result)
    }

    fn pair(&mut self, many: usize, one: usize, step: usize, written: &mut usize) -> Result<(), EvalError> {
        let (a, b) = (self.many.row(many)[step], self.one.row(one)[step]);
        let (left, right) = if self.node.matching.group == Group::OneToMany { (b, a) } else { (a, b) };
        let Some(value) = outcome(self.node, left, right, left) else { return Ok(()) };
        let execution = |message: &str| Err(EvalError::Execution(message.to_owned()));
        if self.node.matching.group == Group::OneToOne {
            if *written == step {
                return execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                );
            }
            *written = step;
        }
        let row = match self.pairs.get(&(many, one)) {
            Some(row) => *row,
            None => {
                let key = self.result_key(many, one);
                let row = *self.rows.entry(key.labels.clone()).or_insert_with(|| self.result.push_absent(key));
                self.pairs.insert((many, one), row);
                row
            }
        };
        let out = &mut self.result.row_mut(row)[step];
        if !is_absent(*out) {
            return match self.node.matching.group {
                Group::OneToOne => Err(super::table::same_labelset()),
                _ => execution("multiple matches for labels: grouping labels must ensure unique matches"),
            };
        }
        *out = value;
        Ok(())
    }

    fn result_key(&self, many: usize, one: usize) -> Key {
        let names = self.evaluator.context.names;
        let (many, one) = (&self.many.keys[many], &self.one.keys[one]);
        let matching = &self.node.matching;
        let mut labels = many.visible(names);
        if !self.node.op.is_comparison() || (self.node.return_bool && names == Names::DropAtOnce) {
            labels = labels.without_metadata();
        }
        if matching.group == Group::OneToOne {
            labels = if matching.on { labels.only(&matching.labels) } else { labels.without(&matching.labels) };
        }
        if !matching.include.is_empty() {
            let from = one.visible(names);
            let taken = matching.include.iter().map(|name| (name.as_str(), from.value(name)));
            labels = labels.iter().chain(taken).collect();
        }
        Key { labels, drop_name: false }
    }

    fn duplicate(&self, row: usize, other: usize) -> EvalError {
        let names = self.evaluator.context.names;
        let side = if self.node.matching.group == Group::OneToMany { "left" } else { "right" };
        let key = |row: usize| &self.one.keys[row];
        let shown = |row: usize| go_labels(&key(row).visible(names));
        let matching = &self.node.matching;
        let of_match = if matching.on {
            key(row).labels.only(&matching.labels)
        } else {
            key(row).labels.without(&matching.labels).without(&[METRIC_NAME])
        };
        EvalError::Execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];\
             many-to-many matching not allowed: matching labels must be unique on one side",
            go_labels(&of_match),
            shown(row),
            shown(other),
        ))
    }
}

/// As Go's `Labels.String` prints: `{__name__="up", job="a"}`.
fn go_labels(labels: &Labels) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={}", super::lex::quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}
