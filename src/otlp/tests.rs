//! Tests of the receiver over real sockets, and of decoding.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::model::Span;

/// A small span.
pub(super) fn span(id: u64) -> Span {
    super::decode_json(
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id:032x}","spanId":"{id:016x}","name":"op",
            "startTimeUnixNano":"1000","endTimeUnixNano":"2000"}}]}}]}}]}}"#
        )
        .as_bytes(),
        &super::Limits::default(),
        super::intake::now(),
    )
    .unwrap()
    .spans
    .remove(0)
}
