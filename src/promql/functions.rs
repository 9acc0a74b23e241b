//! The functions of PromQL: names, argument types, and which rule evaluates each.
//!
//! Out: [`find`]. The table is Prometheus 3.5's `promql/parser/functions.go`; native-histogram functions are known, so
//! that queries with them parse, and yield nothing because no native histogram is ever stored.

use super::ast::ValueKind::{self, Matrix, Scalar, String, Vector};

/// One function.
#[derive(Debug)]
pub(crate) struct Function {
    pub name: &'static str,
    pub args: &'static [ValueKind],
    /// 0: exactly `args`; n > 0: the last of `args` is optional and may occur n times; −1: any number of times.
    pub variadic: i8,
    pub returns: ValueKind,
    pub experimental: bool,
    pub rule: Rule,
}

/// What evaluates a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A number for each value.
    Math(Math),
    /// A number for each window of samples.
    Range(RangeRule),
    /// A part of the date, UTC.
    Date(Date),
    Absent,
    AbsentOverTime,
    Clamp,
    ClampMax,
    ClampMin,
    Round,
    Scalar,
    Vector,
    Time,
    Pi,
    Timestamp,
    Sort,
    SortDesc,
    SortByLabel,
    SortByLabelDesc,
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramFraction,
    /// Works on native histograms only: nothing comes out.
    NativeOnly,
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Math {
    Abs,
    Ceil,
    Floor,
    Exp,
    Sqrt,
    Ln,
    Log2,
    Log10,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Rad,
    Deg,
    Sgn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Date {
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
    Month,
    Year,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeRule {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Last,
    Present,
    Stddev,
    Stdvar,
    Mad,
    Quantile,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
}

const fn stable(
    name: &'static str,
    args: &'static [ValueKind],
    variadic: i8,
    returns: ValueKind,
    rule: Rule,
) -> Function {
    Function { name, args, variadic, returns, experimental: false, rule }
}

const fn math(name: &'static str, math: Math) -> Function {
    stable(name, &[Vector], 0, Vector, Rule::Math(math))
}

const fn range(name: &'static str, rule: RangeRule) -> Function {
    stable(name, &[Matrix], 0, Vector, Rule::Range(rule))
}

const fn date(name: &'static str, part: Date) -> Function {
    stable(name, &[Vector], 1, Vector, Rule::Date(part))
}

const fn experimental(function: Function) -> Function {
    Function { experimental: true, ..function }
}

/// Sorted by name.
static FUNCTIONS: &[Function] = &[
    math("abs", Math::Abs),
    stable("absent", &[Vector], 0, Vector, Rule::Absent),
    stable("absent_over_time", &[Matrix], 0, Vector, Rule::AbsentOverTime),
    math("acos", Math::Acos),
    math("acosh", Math::Acosh),
    math("asin", Math::Asin),
    math("asinh", Math::Asinh),
    math("atan", Math::Atan),
    math("atanh", Math::Atanh),
    range("avg_over_time", RangeRule::Avg),
    math("ceil", Math::Ceil),
    range("changes", RangeRule::Changes),
    stable("clamp", &[Vector, Scalar, Scalar], 0, Vector, Rule::Clamp),
    stable("clamp_max", &[Vector, Scalar], 0, Vector, Rule::ClampMax),
    stable("clamp_min", &[Vector, Scalar], 0, Vector, Rule::ClampMin),
    math("cos", Math::Cos),
    math("cosh", Math::Cosh),
    range("count_over_time", RangeRule::Count),
    date("day_of_month", Date::DayOfMonth),
    date("day_of_week", Date::DayOfWeek),
    date("day_of_year", Date::DayOfYear),
    date("days_in_month", Date::DaysInMonth),
    math("deg", Math::Deg),
    range("delta", RangeRule::Delta),
    range("deriv", RangeRule::Deriv),
    experimental(stable(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        0,
        Vector,
        Rule::Range(RangeRule::DoubleExponentialSmoothing),
    )),
    math("exp", Math::Exp),
    math("floor", Math::Floor),
    stable("histogram_avg", &[Vector], 0, Vector, Rule::NativeOnly),
    stable("histogram_count", &[Vector], 0, Vector, Rule::NativeOnly),
    stable("histogram_fraction", &[Scalar, Scalar, Vector], 0, Vector, Rule::HistogramFraction),
    stable("histogram_quantile", &[Scalar, Vector], 0, Vector, Rule::HistogramQuantile),
    stable("histogram_stddev", &[Vector], 0, Vector, Rule::NativeOnly),
    stable("histogram_stdvar", &[Vector], 0, Vector, Rule::NativeOnly),
    stable("histogram_sum", &[Vector], 0, Vector, Rule::NativeOnly),
    date("hour", Date::Hour),
    range("idelta", RangeRule::Idelta),
    range("increase", RangeRule::Increase),
    experimental(stable("info", &[Vector, Vector], 1, Vector, Rule::Info)),
    range("irate", RangeRule::Irate),
    stable("label_join", &[Vector, String, String, String], -1, Vector, Rule::LabelJoin),
    stable("label_replace", &[Vector, String, String, String, String], 0, Vector, Rule::LabelReplace),
    range("last_over_time", RangeRule::Last),
    math("ln", Math::Ln),
    math("log10", Math::Log10),
    math("log2", Math::Log2),
    experimental(range("mad_over_time", RangeRule::Mad)),
    range("max_over_time", RangeRule::Max),
    range("min_over_time", RangeRule::Min),
    date("minute", Date::Minute),
    date("month", Date::Month),
    stable("pi", &[], 0, Scalar, Rule::Pi),
    stable("predict_linear", &[Matrix, Scalar], 0, Vector, Rule::Range(RangeRule::PredictLinear)),
    range("present_over_time", RangeRule::Present),
    stable("quantile_over_time", &[Scalar, Matrix], 0, Vector, Rule::Range(RangeRule::Quantile)),
    math("rad", Math::Rad),
    range("rate", RangeRule::Rate),
    range("resets", RangeRule::Resets),
    stable("round", &[Vector, Scalar], 1, Vector, Rule::Round),
    stable("scalar", &[Vector], 0, Scalar, Rule::Scalar),
    math("sgn", Math::Sgn),
    math("sin", Math::Sin),
    math("sinh", Math::Sinh),
    stable("sort", &[Vector], 0, Vector, Rule::Sort),
    experimental(stable("sort_by_label", &[Vector, String], -1, Vector, Rule::SortByLabel)),
    experimental(stable("sort_by_label_desc", &[Vector, String], -1, Vector, Rule::SortByLabelDesc)),
    stable("sort_desc", &[Vector], 0, Vector, Rule::SortDesc),
    math("sqrt", Math::Sqrt),
    range("stddev_over_time", RangeRule::Stddev),
    range("stdvar_over_time", RangeRule::Stdvar),
    range("sum_over_time", RangeRule::Sum),
    math("tan", Math::Tan),
    math("tanh", Math::Tanh),
    stable("time", &[], 0, Scalar, Rule::Time),
    stable("timestamp", &[Vector], 0, Vector, Rule::Timestamp),
    experimental(range("ts_of_last_over_time", RangeRule::TimeOfLast)),
    experimental(range("ts_of_max_over_time", RangeRule::TimeOfMax)),
    experimental(range("ts_of_min_over_time", RangeRule::TimeOfMin)),
    stable("vector", &[Scalar], 0, Vector, Rule::Vector),
    date("year", Date::Year),
];

/// The function of that name (names are case-sensitive).
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

/// Names of all functions, sorted, with whether each is experimental: for completion and documentation.
pub fn function_names() -> impl Iterator<Item = (&'static str, bool)> {
    FUNCTIONS.iter().map(|function| (function.name, function.experimental))
}

impl Function {
    /// Whether the result changes with the evaluation time even when all arguments are fixed by `@`.
    pub fn depends_on_step(&self) -> bool {
        matches!(self.rule, Rule::Date(_) | Rule::Time | Rule::Timestamp | Rule::Range(RangeRule::PredictLinear))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_function_of_the_table() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name), "binary search needs the order");
        assert!(function_names().all(|(name, _)| find(name).is_some_and(|f| f.name == name)));
        assert!(find("Rate").is_none() && find("holt_winters").is_none());
    }
}
