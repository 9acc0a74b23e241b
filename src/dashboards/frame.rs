//! What every board has around its panels: variables, annotations, links, places on the grid.
//!
//! In: panels without a place. Out: a [`Dashboard`]. Panels flow from left to right, row after row, in reading order.

use super::grafana::{
    Annotation, Annotations, CHOSEN, Choice, Dashboard, Link, Panel, Range, SCHEMA_VERSION, Templating, Variable,
    VariableKind,
};

/// What tells one board from another, but for its panels.
pub(super) struct Board {
    /// Stable identity.
    pub(super) uid: &'static str,
    /// Title.
    pub(super) title: &'static str,
    /// What it answers.
    pub(super) description: &'static str,
    /// Beside `meshscope`.
    pub(super) tag: &'static str,
    /// Path of our page that answers the same.
    pub(super) page: &'static str,
    /// Between the data source and the address of our pages.
    pub(super) variables: Vec<Variable>,
}

impl Board {
    /// The dashboard with these panels.
    pub(super) fn with(self, panels: Vec<Panel>) -> Dashboard {
        let Self { uid, title, description, tag, page, variables } = self;
        let mut list = vec![data_source()];
        list.extend(variables);
        list.push(pages());
        Dashboard {
            uid,
            title,
            description,
            tags: vec![tag, "meshscope"],
            schema_version: SCHEMA_VERSION,
            editable: true,
            graph_tooltip: 1,
            refresh: "30s",
            time: Range { from: "now-1h", to: "now" },
            timezone: "browser",
            links: links(page),
            annotations: Annotations { list: annotations() },
            templating: Templating { list },
            panels: placed(panels),
        }
    }
}

/// Numbers the panels and gives each the next free place: beside the one before, else below the row.
fn placed(mut panels: Vec<Panel>) -> Vec<Panel> {
    let (mut x, mut y, mut height) = (0, 0, 0);
    for (id, panel) in (1_u32..).zip(&mut panels) {
        panel.id = id;
        let place = &mut panel.grid_pos;
        if x + place.w > 24 {
            (x, y, height) = (0, y + height, 0);
        }
        (place.x, place.y) = (x, y);
        x += place.w;
        height = height.max(place.h);
    }
    panels
}

fn links(page: &'static str) -> Vec<Link> {
    let boards = Link {
        kind: "dashboards",
        title: "Boards of the mesh",
        tooltip: "The other boards, with what is chosen here",
        icon: "external link",
        tags: vec!["meshscope"],
        url: String::new(),
        as_dropdown: true,
        include_vars: true,
        keep_time: true,
        target_blank: false,
    };
    let pages = Link {
        kind: "link",
        title: "meshscope",
        tooltip: "The page of meshscope that answers the same",
        icon: "dashboard",
        tags: Vec::new(),
        url: format!("${{meshscope}}{page}"),
        as_dropdown: false,
        include_vars: false,
        keep_time: false,
        target_blank: true,
    };
    vec![boards, pages]
}

fn annotations() -> Vec<Annotation> {
    let event = |name, expr, icon_color, title_format, text_format, tag_keys| Annotation {
        name,
        datasource: CHOSEN,
        enable: true,
        hide: false,
        icon_color,
        expr,
        title_format,
        text_format,
        tag_keys,
        step: "60s",
    };
    vec![
        event("Alerts", r#"ALERTS{alertstate="firing"}"#, "red", "{{alertname}}", "{{severity}}", "alertname,severity"),
        event(
            "Configuration changes",
            "sum by (type, event) (increase(pilot_k8s_cfg_events[2m])) > 0",
            "blue",
            "{{type}} {{event}}",
            "Istio read a change of its configuration",
            "type,event",
        ),
        event(
            "Proxy versions",
            "count by (component, tag) (istio_build) != count by (component, tag) (istio_build offset 2m)",
            "purple",
            "{{component}} {{tag}}",
            "Another number of proxies of this version",
            "component,tag",
        ),
    ]
}

/// A variable whose values are asked for. Several may be chosen; at first all are.
pub(super) fn any_of((name, label): (&'static str, &'static str), description: &'static str, query: &str) -> Variable {
    let all = Choice { text: "All".to_owned(), value: "$__all".to_owned(), selected: true };
    Variable {
        query: query.to_owned(),
        datasource: Some(CHOSEN),
        refresh: 2,
        sort: 1,
        multi: true,
        include_all: true,
        all_value: Some(".*"),
        current: Some(all),
        ..variable((name, label), description, VariableKind::Query)
    }
}

/// A variable whose values are asked for, one of which is chosen.
pub(super) fn one_of(name: (&'static str, &'static str), description: &'static str, query: &str) -> Variable {
    Variable { multi: false, include_all: false, all_value: None, current: None, ..any_of(name, description, query) }
}

/// Whose report counts.
pub(super) fn reporter() -> Variable {
    let views = [("client", "source|waypoint", true), ("server", "destination|waypoint", false)];
    let options: Vec<Choice> = views
        .iter()
        .map(|&(text, value, selected)| Choice { text: text.to_owned(), value: value.to_owned(), selected })
        .collect();
    Variable {
        query: "client : source|waypoint,server : destination|waypoint".to_owned(),
        current: options.first().cloned(),
        options,
        ..variable(
            ("reporter", "Seen by"),
            "The client's view sees refused, timed out and injected calls; the server's view sees callers without a proxy. Never both: each call would count twice.",
            VariableKind::Custom,
        )
    }
}

/// The cluster of the called workload.
pub(super) fn cluster() -> Variable {
    any_of(
        ("cluster", "Cluster"),
        "Cluster of the called workload; `unknown` is a call that reached none",
        "label_values(istio_requests_total, destination_cluster)",
    )
}

/// The namespace of the called service.
pub(super) fn namespace() -> Variable {
    any_of(
        ("namespace", "Namespace"),
        "Namespace of the called service",
        r#"label_values(istio_requests_total{destination_cluster=~"$cluster"}, destination_service_namespace)"#,
    )
}

fn data_source() -> Variable {
    Variable {
        query: "prometheus".to_owned(),
        refresh: 1,
        ..variable(("datasource", "Data source"), "Prometheus, or meshscope's Prometheus API", VariableKind::Datasource)
    }
}

/// The PostgreSQL that holds the views, in the place of the Prometheus data source.
pub(super) fn sql_source() -> Variable {
    Variable {
        query: "postgres".to_owned(),
        refresh: 1,
        ..variable(("sql", "Data source"), "meshscope's PostgreSQL, read by its views", VariableKind::Datasource)
    }
}

/// Where our pages are, for the links.
fn pages() -> Variable {
    let address = "http://127.0.0.1:7070";
    Variable {
        query: address.to_owned(),
        current: Some(Choice { text: address.to_owned(), value: address.to_owned(), selected: true }),
        ..variable(
            ("meshscope", "Address of meshscope"),
            "Where the links to meshscope's pages lead; without meshscope they lead nowhere",
            VariableKind::Textbox,
        )
    }
}

fn variable((name, label): (&'static str, &'static str), description: &'static str, kind: VariableKind) -> Variable {
    Variable {
        name,
        label,
        description,
        kind,
        query: String::new(),
        datasource: None,
        refresh: 0,
        sort: 0,
        multi: false,
        include_all: false,
        all_value: None,
        current: None,
        options: Vec::new(),
    }
}
