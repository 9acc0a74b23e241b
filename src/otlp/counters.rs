//! What the receiver counts about itself: requests, spans and log records, rejections by reason, cuts by reason.
//!
//! Invariant: every span and log record of every decoded request is counted once, as accepted, rejected or (whole request) refused.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::logs::{LogRejection, LogTally, LogTrim};

/// Why one span was not taken. Its request was, so the client must not send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The trace id is not 16 bytes or all zero.
    TraceId,
    /// The span id is not 8 bytes or all zero.
    SpanId,
    /// The parent span id is neither empty nor 8 bytes.
    ParentId,
    /// No start time.
    StartTime,
    /// Starts too far in the future: most often microseconds or seconds sent as nanoseconds.
    FutureStart,
    /// Beyond `limits.spans_per_request`.
    SpanLimit,
    /// Larger than `limits.span_bytes`.
    TooLarge,
}

impl Rejection {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::TraceId,
        Self::SpanId,
        Self::ParentId,
        Self::StartTime,
        Self::FutureStart,
        Self::SpanLimit,
        Self::TooLarge,
    ];

    /// Value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TraceId => "invalid_trace_id",
            Self::SpanId => "invalid_span_id",
            Self::ParentId => "invalid_parent_span_id",
            Self::StartTime => "no_start_time",
            Self::FutureStart => "start_in_future",
            Self::SpanLimit => "too_many_spans",
            Self::TooLarge => "span_too_large",
        }
    }

    /// What is wrong with such a span, for the partial success message.
    pub fn explain(self) -> &'static str {
        match self {
            Self::TraceId => "with a trace id that is not 16 non-zero bytes",
            Self::SpanId => "with a span id that is not 8 non-zero bytes",
            Self::ParentId => "with a parent span id that is not 8 bytes",
            Self::StartTime => "without a start time",
            Self::FutureStart => "with a start time in the future (is it in nanoseconds?)",
            Self::SpanLimit => "beyond the limit of spans in one request (otlp.limits.spans_per_request)",
            Self::TooLarge => "beyond the limit of bytes of one span (otlp.limits.span_bytes)",
        }
    }
}

/// What was mended or cut on a span that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// The end was before the start: the duration became zero.
    EndBeforeStart,
    /// The end was farther in the future than a start may be: the duration became zero.
    EndInFuture,
    /// The kind or the status code has no meaning: it was read as unset.
    Enum,
    /// Attributes beyond the count or byte limit were dropped, or had no usable name.
    Attributes,
    /// A text beyond its limit was cut.
    Text,
    /// Events beyond the limit were dropped.
    Events,
    /// Links beyond the limit were dropped, or had an invalid id.
    Links,
    /// Bytes of a text that are not UTF-8 were replaced.
    Utf8,
}

impl Trim {
    /// All kinds, in the order of their counters.
    pub const ALL: [Self; 8] = [
        Self::EndBeforeStart,
        Self::EndInFuture,
        Self::Enum,
        Self::Attributes,
        Self::Text,
        Self::Events,
        Self::Links,
        Self::Utf8,
    ];

    /// Value of the `what` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndBeforeStart => "end_before_start",
            Self::EndInFuture => "end_in_future",
            Self::Enum => "unknown_enum",
            Self::Attributes => "attributes",
            Self::Text => "text",
            Self::Events => "events",
            Self::Links => "links",
            Self::Utf8 => "utf8",
        }
    }
}

/// Counters of the receiver, read by `telemetry`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Export requests over gRPC that came whole.
    pub grpc_requests: AtomicU64,
    /// Requests over HTTP, good and bad.
    pub http_requests: AtomicU64,
    /// Bytes of HTTP bodies as received.
    pub http_received_bytes: AtomicU64,
    /// Requests answered 400 over HTTP or `INVALID_ARGUMENT` over gRPC.
    pub malformed_requests: AtomicU64,
    /// Requests over HTTP answered 413.
    pub oversized_requests: AtomicU64,
    /// Requests over HTTP answered 415.
    pub unsupported_requests: AtomicU64,
    /// Requests refused because the queue was full or closing; the client was told to retry.
    pub refused_requests: AtomicU64,
    /// Requests in the queue whose client was told to retry, since PostgreSQL did not have them in time.
    pub unstored_requests: AtomicU64,
    /// Requests that came again while what came first was stored or on its way: answered, and neither counted nor stored again.
    pub repeated_requests: AtomicU64,
    /// Spans put in the queue.
    pub accepted_spans: AtomicU64,
    /// Spans of refused requests.
    pub refused_spans: AtomicU64,
    /// Access log records put in their queue.
    pub accepted_log_records: AtomicU64,
    /// Log records of refused requests.
    pub refused_log_records: AtomicU64,
    rejected_log_records: [AtomicU64; LogRejection::ALL.len()],
    trimmed_log_records: [AtomicU64; LogTrim::ALL.len()],
    rejected_spans: [AtomicU64; Rejection::ALL.len()],
    trimmed: [AtomicU64; Trim::ALL.len()],
}

impl Counters {
    /// Spans rejected for that reason.
    pub fn rejected_spans(&self, reason: Rejection) -> u64 {
        self.rejected_spans[reason as usize].load(Relaxed)
    }

    /// Things cut or mended of that kind.
    pub fn trimmed(&self, what: Trim) -> u64 {
        self.trimmed[what as usize].load(Relaxed)
    }

    /// Log records rejected for that reason.
    pub fn rejected_log_records(&self, reason: LogRejection) -> u64 {
        self.rejected_log_records[reason as usize].load(Relaxed)
    }

    /// Things cut or mended of that kind on log records.
    pub fn trimmed_log_records(&self, what: LogTrim) -> u64 {
        self.trimmed_log_records[what as usize].load(Relaxed)
    }

    pub(super) fn add_logs(&self, tally: &LogTally) {
        for reason in LogRejection::ALL {
            self.rejected_log_records[reason as usize].fetch_add(tally.rejected(reason), Relaxed);
        }
        for what in LogTrim::ALL {
            self.trimmed_log_records[what as usize].fetch_add(tally.trimmed(what), Relaxed);
        }
    }

    pub(super) fn add(&self, tally: &super::Tally) {
        for reason in Rejection::ALL {
            self.rejected_spans[reason as usize].fetch_add(tally.rejected(reason), Relaxed);
        }
        for what in Trim::ALL {
            self.trimmed[what as usize].fetch_add(tally.trimmed(what), Relaxed);
        }
    }
}
