//! The messages of remote write as a receiver reads them, for tests of this crate and of the whole program.
#![allow(dead_code, reason = "not every test looks at every field")]

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct LabelMessage {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SampleMessage {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct SeriesMessage {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<ExemplarMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelMessage>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub labels: Vec<u32>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct RequestV1 {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<SeriesMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<ExemplarV2>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub series: Vec<SeriesV2>,
}
