//! Error bodies: `google.rpc.Status`, with `RetryInfo` when the client should come again (OTLP spec, "Failures").

use std::time::Duration;

use prost::Message;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoDuration {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

impl Status {
    /// A status; with `retry_after`, one that tells the client to come again.
    pub(super) fn new(code: tonic::Code, message: &str, retry_after: Option<Duration>) -> Self {
        let details = retry_after.map(|delay| {
            let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
            let retry_delay = Some(ProtoDuration { seconds, nanos: delay.subsec_nanos() as i32 });
            let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
            Any { type_url, value: RetryInfo { retry_delay }.encode_to_vec() }
        });
        Self { code: code as i32, message: message.to_owned(), details: details.into_iter().collect() }
    }

    /// The same as tonic wants it.
    pub(super) fn into_grpc(self) -> tonic::Status {
        let details = self.encode_to_vec().into();
        tonic::Status::with_details(tonic::Code::from(self.code), self.message, details)
    }

    /// JSON mapping. The details are left out: their form in JSON needs the type registry, and HTTP has `Retry-After`.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::json!({ "code": self.code, "message": self.message }).to_string().into_bytes()
    }
}
