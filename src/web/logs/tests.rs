//! Records of any kind stay text; the form reads what it wrote.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use askama::Template as _;

use super::*;
use crate::model::workload::{Reporter, Service, Workload};
use crate::web::hostile;

fn record(text: &str) -> AccessRecord {
    let workload = Workload { namespace: Some(text.into()), name: Some(text.into()), ..Workload::default() };
    AccessRecord {
        at_ns: 1_768_471_200_000_000_000,
        trace_id: Some([1; 16]),
        span_id: None,
        reporter: Reporter::Destination,
        source: workload.clone(),
        destination: workload,
        service: Service { name: Some(text.into()), ..Service::default() },
        code: 403,
        grpc_status: Some(7),
        flags: text.into(),
        reason: Reason::RbacDenied,
        policy: Some(text.into()),
        rule: Some(2),
        duration_ms: Some(u64::MAX),
        upstream_ms: Some(1),
        request_bytes: 0,
        response_bytes: u64::MAX,
        details: Detail::ALL.map(|detail| (detail, text.into())).into(),
    }
}

#[test]
fn records_of_any_kind_stay_text() {
    for text in hostile::texts() {
        let address = Address {
            source: Some(text.clone()),
            code: Some(text.clone()),
            at: Some(text.clone()),
            ..Address::default()
        };
        let records = [Arc::new(record(&text))];
        let page = Page { rows: vec![row(&records[0])], totals: address.totals(&records), ..address.page("1h") };
        let page = page.render().unwrap();
        hostile::assert_harmless(&page);
        assert!(page.contains("denied by a rule of an AuthorizationPolicy"));
        assert!(page.contains("rule 2"));
        assert!(page.contains("/traces/01010101010101010101010101010101"));
    }
}

#[test]
fn what_the_form_asks_for_becomes_a_filter_or_a_sentence() {
    let now = Timestamp::from_millis(1_768_471_200_000);
    let range = range::Query::default().read("1h", now).unwrap();
    let asked = Address { source: Some(" shop/cart ".into()), reason: Some("failures".into()), ..Address::default() };
    let filter = asked.filter(&range).unwrap();
    assert_eq!((filter.source.as_deref(), filter.failures_only, filter.reason), (Some("shop/cart"), true, None));
    for (address, wrong) in [
        (Address { reason: Some("bad luck".into()), ..Address::default() }, "reason"),
        (Address { code: Some("teapot".into()), ..Address::default() }, "code"),
        (Address { trace: Some("xyz".into()), ..Address::default() }, "trace"),
    ] {
        assert!(address.filter(&range).unwrap_err().starts_with(wrong));
    }
}

#[test]
fn no_records_yet_says_where_to_send_them() {
    let page = |records_seen| Page { records_seen, ..Address::default().page("1h") }.render().unwrap();
    assert!(page(0).contains("envoyOtelAls") && page(0).contains("127.0.0.1:4317"));
    assert!(page(7).contains("Choose a longer range"));
}
