//! What was rejected and cut of log records, by reason.

/// Why one log record was not taken. Its request was, so the client must not send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRejection {
    /// It is no access log of a proxy: meshscope keeps no other logs.
    NotAccessLog,
    /// It is from too far in the future: most often microseconds or seconds sent as nanoseconds.
    FutureTime,
    /// Beyond `limits.spans_per_request`.
    RecordLimit,
    /// Larger than `limits.span_bytes`.
    TooLarge,
}

impl LogRejection {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::NotAccessLog, Self::FutureTime, Self::RecordLimit, Self::TooLarge];

    /// Value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAccessLog => "not_an_access_log",
            Self::FutureTime => "time_in_future",
            Self::RecordLimit => "too_many_records",
            Self::TooLarge => "record_too_large",
        }
    }

    /// What is wrong with such a record, for the partial success message.
    pub fn explain(self) -> &'static str {
        match self {
            Self::NotAccessLog => {
                "that are no access logs of a proxy in a known format (access_logs.formats); other logs are not kept here"
            }
            Self::FutureTime => "with a time in the future (is it in nanoseconds?)",
            Self::RecordLimit => "beyond the limit of records in one request (otlp.limits.spans_per_request)",
            Self::TooLarge => "beyond the limit of bytes of one record (otlp.limits.span_bytes)",
        }
    }
}

/// What was mended or cut on a record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTrim {
    /// It had no time of any kind: it got the time at which it came.
    Time,
    /// Ids of a wrong length were dropped.
    TraceContext,
    /// Attributes beyond the limit were not read.
    Attributes,
    /// A text beyond its limit was cut.
    Text,
}

impl LogTrim {
    /// All kinds, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::Time, Self::TraceContext, Self::Attributes, Self::Text];

    /// Value of the `what` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::TraceContext => "trace_context",
            Self::Attributes => "attributes",
            Self::Text => "text",
        }
    }
}

/// What was rejected and what was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTally {
    rejected: [u64; LogRejection::ALL.len()],
    trimmed: [u64; LogTrim::ALL.len()],
}

impl LogTally {
    /// Records rejected for that reason.
    pub fn rejected(&self, reason: LogRejection) -> u64 {
        self.rejected[reason as usize]
    }

    /// Things cut of that kind.
    pub fn trimmed(&self, what: LogTrim) -> u64 {
        self.trimmed[what as usize]
    }

    /// Records rejected for any reason.
    pub fn total_rejected(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// What the client should know, `None` when all is well.
    pub fn message(&self) -> Option<String> {
        let rejected = LogRejection::ALL.into_iter().filter(|reason| self.rejected(*reason) > 0);
        let mut parts: Vec<String> =
            rejected.map(|reason| format!("rejected {} {}", self.rejected(reason), reason.explain())).collect();
        let trimmed = LogTrim::ALL.into_iter().filter(|what| self.trimmed(*what) > 0);
        parts.extend(trimmed.map(|what| format!("trimmed {} {}", self.trimmed(what), what.as_str())));
        (!parts.is_empty()).then(|| format!("log records: {}", parts.join(", ")))
    }

    pub(super) fn reject(&mut self, reason: LogRejection) {
        self.rejected[reason as usize] += 1;
    }

    pub(super) fn trim(&mut self, what: LogTrim, count: u64) {
        self.trimmed[what as usize] += count;
    }
}
