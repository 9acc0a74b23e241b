//! What a cluster asks of the objects of Kubernetes that matter for a mesh. Fields that are not listed are not looked at.

use super::Type::{Any, Enum, Integer, IntegerOrText, List, Object, Text};
use super::{FILLED, Field, PORT, Shape, TEXT, TEXT_MAP, Type, field, istio, text};
use crate::mesh::Kind;
use crate::yaml::Node;

const PROTOCOL: Type = Enum(&["TCP", "UDP", "SCTP"]);
const LABELS: Type = Type::Map(text::label_key, &Text(text::label_value));
const CONTAINER: Shape = Shape::of(&[
    field("name", Text(text::port_name)),
    field("image", TEXT), // that it is there is asked by MS0722, which knows injectors
    field("command", List(&TEXT, 0)),
    field("args", List(&TEXT, 0)),
    field(
        "ports",
        List(
            &Object(
                &Shape::of(&[
                    field("containerPort", PORT),
                    field("name", Text(text::port_name)),
                    field("protocol", PROTOCOL),
                    field("hostPort", Integer(0, 65535)),
                    field("hostIP", TEXT),
                ])
                .required(&["containerPort"]),
            ),
            0,
        ),
    ),
    field(
        "env",
        List(
            &Object(
                &Shape::of(&[field("name", FILLED), field("value", TEXT), field("valueFrom", Any)]).required(&["name"]),
            ),
            0,
        ),
    ),
])
.required(&["name"])
.open();
const POD: Shape = Shape::of(&[
    field("containers", List(&Object(&CONTAINER), 1)),
    field("initContainers", List(&Object(&CONTAINER), 0)),
    field("serviceAccountName", TEXT),
    field("nodeSelector", TEXT_MAP),
])
.required(&["containers"])
.open();
const TEMPLATE: Type = Object(
    &Shape::of(&[
        field("metadata", Object(&Shape::of(&[field("labels", LABELS), field("annotations", TEXT_MAP)]).open())),
        field("spec", Object(&POD)),
    ])
    .required(&["spec"])
    .open(),
);
const SELECTOR: Type = Object(&Shape::of(&[field("matchLabels", LABELS), field("matchExpressions", List(&Any, 0))]));
const WORKLOAD: Shape = Shape::of(&[
    field("selector", SELECTOR),
    field("template", TEMPLATE),
    field("replicas", Integer(0, i32::MAX as i64)),
    field("serviceName", TEXT),
])
.required(&["selector", "template"])
.rules(&[selects_itself])
.open();
const JOB: Shape = Shape::of(&[field("template", TEMPLATE)]).required(&["template"]).open();
const CRON_JOB: Shape = Shape::of(&[
    field("schedule", FILLED),
    field("jobTemplate", Object(&Shape::of(&[field("spec", Object(&JOB))]).required(&["spec"]).open())),
])
.required(&["schedule", "jobTemplate"])
.open();
const SERVICE: Shape = Shape::of(&[
    field(
        "ports",
        List(
            &Object(
                &Shape::of(&[
                    field("port", PORT),
                    field("name", Text(text::port_name)),
                    field("protocol", PROTOCOL),
                    field("targetPort", IntegerOrText),
                    field("nodePort", Integer(0, 65535)),
                    field("appProtocol", FILLED),
                ])
                .required(&["port"]),
            ),
            0,
        ),
    ),
    field("selector", TEXT_MAP),
    field("type", Enum(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])),
    field("clusterIP", TEXT),
    field("externalName", TEXT),
    field("sessionAffinity", Enum(&["None", "ClientIP"])),
])
.rules(&[named_ports])
.open();
const CONFIG_MAP: Shape = Shape::of(&[
    field("apiVersion", TEXT),
    field("kind", TEXT),
    field("metadata", Any),
    field("data", TEXT_MAP),
    field("binaryData", TEXT_MAP),
    field("immutable", Type::Flag),
]);
const INGRESS: Shape = Shape::of(&[
    field("ingressClassName", TEXT),
    field("defaultBackend", Any),
    field("tls", List(&Any, 0)),
    field(
        "rules",
        List(
            &Object(&Shape::of(&[
                field("host", Text(text::wildcard_host)),
                field(
                    "http",
                    Object(&Shape::of(&[field("paths", List(&Object(&INGRESS_PATH), 1))]).required(&["paths"])),
                ),
            ])),
            0,
        ),
    ),
]);
const INGRESS_PATH: Shape = Shape::of(&[
    field("path", Text(text::slashed)),
    field("pathType", Enum(&["Exact", "Prefix", "ImplementationSpecific"])),
    field("backend", Any),
])
.required(&["pathType", "backend"]);

/// Kinds of which only the outer form is looked at.
const OPEN: Shape = Shape { open: true, ..Shape::of(NO_FIELDS) };
const NO_FIELDS: &[Field] = &[];

/// The object of a kind of Kubernetes.
pub(super) fn shape(kind: Kind) -> Option<Shape> {
    let spec = match kind {
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => &WORKLOAD,
        Kind::Pod => &POD,
        Kind::Job => &JOB,
        Kind::CronJob => &CRON_JOB,
        Kind::Service => &SERVICE,
        Kind::Ingress => &INGRESS,
        Kind::ConfigMap => return Some(CONFIG_MAP),
        Kind::Namespace | Kind::ServiceAccount => return Some(OPEN),
        _ => return None,
    };
    Some(istio::top(spec, true))
}

/// A workload whose template does not carry the labels it selects is refused.
fn selects_itself(node: &Node, said: &mut Vec<(String, String)>) {
    let wanted = node.get("selector").and_then(|selector| selector.get("matchLabels")).map(Node::entries);
    let labels = node.get("template").and_then(|one| one.get("metadata")).and_then(|one| one.get("labels"));
    for (key, value) in wanted.unwrap_or_default() {
        let has = key.as_str().and_then(|key| labels?.get(key)).and_then(Node::as_str);
        if has != value.as_str() {
            let (key, value) = (key.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
            let message = format!("the template does not carry the label {key}: {value} that the selector asks for");
            said.push(("selector.matchLabels".to_owned(), message));
        }
    }
}

/// Of several ports each needs a name, and no two the same.
fn named_ports(node: &Node, said: &mut Vec<(String, String)>) {
    let ports = node.get("ports").map(Node::items).unwrap_or_default();
    let name = |port: &Node| port.get("name").and_then(Node::as_str).map(str::to_owned);
    for (at, port) in ports.iter().enumerate().filter(|_| ports.len() > 1) {
        match name(port) {
            None => said.push((format!("ports[{at}]"), "needs a name: there are several ports".to_owned())),
            Some(text) if ports[..at].iter().any(|other| name(other).as_ref() == Some(&text)) => {
                said.push((format!("ports[{at}].name"), format!("Duplicate value: a port is called {text:?} already")));
            }
            Some(_) => {}
        }
    }
}
