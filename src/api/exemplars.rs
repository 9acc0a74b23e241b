//! Exemplars in the shape of Prometheus' `query_exemplars`.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::encode::{push_labels, push_list, push_seconds};
use super::go_json;
use crate::series::SeriesExemplars;

/// `[{"seriesLabels":{…},"exemplars":[{"labels":{…},"value":"6","timestamp":1600096945.479}]}]`.
pub(super) fn answer(found: &[SeriesExemplars]) -> Response {
    let mut body = String::from(r#"{"status":"success","data":"#);
    push_list(&mut body, found, |body, one| {
        body.push_str(r#"{"seriesLabels":"#);
        push_labels(body, &one.series);
        body.push_str(r#","exemplars":"#);
        push_list(body, &one.exemplars, |body, exemplar| {
            body.push_str(r#"{"labels":"#);
            push_labels(body, &exemplar.labels);
            body.push_str(r#","value":""#);
            go_json::push_number(body, exemplar.value);
            body.push_str(r#"","timestamp":"#);
            push_seconds(body, exemplar.at);
            body.push('}');
        });
        body.push('}');
    });
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
