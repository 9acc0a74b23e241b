//! What stands in the simulated mesh: workloads, their pods, the services in front of them, and who calls whom.
//!
//! In: nothing. Out: constant tables and the [`Pod`]s made from them. A shop of 14 workloads in the mesh, a database and
//! a model API outside it, and one caller without a proxy. Names are unique across namespaces, so a name is an identity.

/// The cluster id and trust domain of the mesh, as istiod's defaults are.
pub const CLUSTER: &str = "Kubernetes";
/// The trust domain of every identity.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// The proxy version each page states.
pub const PROXY_VERSION: &str = "1.27.1";

/// A deployment whose pods have a proxy.
#[derive(Debug)]
pub struct Workload {
    /// Name of the deployment.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Label `app`, the canonical service.
    pub app: &'static str,
    /// Label `version`, the canonical revision; `None` when its pods carry none.
    pub version: Option<&'static str>,
    /// The service account it runs as.
    pub service_account: &'static str,
    /// How many pods.
    pub pods: usize,
    /// Median milliseconds of its own work in one request.
    pub own_ms: f64,
    /// Whether its pods opted in to circuit breaker, outlier and retry statistics (`proxyStatsMatcher`).
    pub statistics: bool,
}

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// The label value `request_protocol`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// Where the pods behind a service are.
#[derive(Debug)]
pub enum Behind {
    /// In the mesh: subsets with their declared weights.
    Mesh(&'static [Subset]),
    /// Outside, declared by a ServiceEntry.
    ServiceEntry,
    /// Outside and undeclared: Envoy's `PassthroughCluster`.
    Passthrough,
}

/// One version of a service.
#[derive(Debug)]
pub struct Subset {
    /// Name in the DestinationRule; empty when the service has none.
    pub name: &'static str,
    /// Who answers.
    pub workload: &'static Workload,
    /// Weight in the VirtualService.
    pub weight: u32,
}

/// A service a client can call.
#[derive(Debug)]
pub struct Service {
    /// Short name.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Full host.
    pub host: &'static str,
    /// Port.
    pub port: u16,
    /// Protocol of that port.
    pub protocol: Protocol,
    /// Who answers.
    pub behind: Behind,
    /// Route timeout, milliseconds; 0 is none.
    pub timeout_ms: u64,
}

/// One call in the tree of a request.
#[derive(Debug)]
pub struct Call {
    /// Whom.
    pub to: &'static Service,
    /// HTTP method.
    pub method: &'static str,
    /// Path; `{id}` stands for a number.
    pub path: &'static str,
    /// How often the caller makes it.
    pub share: f64,
    /// Whether the caller fails when it fails.
    pub required: bool,
    /// The calls the answering workload makes meanwhile, one after the other.
    pub then: &'static [Call],
}

/// One kind of request that enters the mesh.
#[derive(Debug)]
pub struct Entry {
    /// Relative frequency.
    pub weight: u32,
    /// The gateway's call.
    pub call: Call,
}

const fn workload(
    name: &'static str,
    namespace: &'static str,
    app: &'static str,
    pods: usize,
    own_ms: f64,
) -> Workload {
    Workload { name, namespace, app, version: Some("v1"), service_account: app, pods, own_ms, statistics: false }
}

/// The way in.
pub static GATEWAY: Workload = Workload {
    version: None,
    service_account: "istio-ingressgateway-service-account",
    ..workload("istio-ingressgateway", "istio-system", "istio-ingressgateway", 2, 0.4)
};
/// Renders the pages; its proxies tell more than the default.
pub static FRONTEND: Workload = Workload { statistics: true, ..workload("frontend-v1", "shop", "frontend", 3, 9.0) };
static CATALOG: Workload = workload("catalog-v1", "shop", "catalog", 2, 7.0);
static CART: Workload = workload("cart-v1", "shop", "cart", 2, 4.0);
static CHECKOUT: Workload = Workload { statistics: true, ..workload("checkout-v1", "shop", "checkout", 2, 11.0) };
/// The stable version of the canary pair.
pub static REVIEWS_V1: Workload = workload("reviews-v1", "shop", "reviews", 2, 12.0);
/// The new version of the canary pair.
pub static REVIEWS_V2: Workload =
    Workload { version: Some("v2"), ..workload("reviews-v2", "shop", "reviews", 1, 15.0) };
static RECOMMENDATION: Workload = workload("recommendation-v1", "shop", "recommendation", 2, 18.0);
/// Also called by a caller without a proxy.
pub static INVENTORY: Workload = workload("inventory-v1", "shop", "inventory", 2, 5.0);
static NOTIFICATION: Workload = workload("notification-v1", "shop", "notification", 1, 14.0);
static ORDERS: Workload = workload("orders-v1", "fulfilment", "orders", 2, 8.0);
static SHIPPING: Workload = workload("shipping-v1", "fulfilment", "shipping", 2, 10.0);
static PAYMENT: Workload = workload("payment-v1", "payments", "payment", 2, 25.0);
static REDIS: Workload = workload("redis-cart", "data", "redis-cart", 1, 0.5);

/// Every workload with a proxy.
pub static WORKLOADS: [&Workload; 14] = [
    &GATEWAY,
    &FRONTEND,
    &CATALOG,
    &CART,
    &CHECKOUT,
    &REVIEWS_V1,
    &REVIEWS_V2,
    &RECOMMENDATION,
    &INVENTORY,
    &NOTIFICATION,
    &ORDERS,
    &SHIPPING,
    &PAYMENT,
    &REDIS,
];

const fn service(
    name: &'static str,
    namespace: &'static str,
    host: &'static str,
    protocol: Protocol,
    behind: &'static [Subset],
) -> Service {
    let port = match protocol {
        Protocol::Http => 8080,
        Protocol::Grpc => 9090,
        Protocol::Tcp => 6379,
    };
    Service { name, namespace, host, port, protocol, behind: Behind::Mesh(behind), timeout_ms: 0 }
}

const fn only(workload: &'static Workload) -> Subset {
    Subset { name: "", workload, weight: 100 }
}

static FRONTEND_SERVICE: Service =
    service("frontend", "shop", "frontend.shop.svc.cluster.local", Protocol::Http, &[only(&FRONTEND)]);
static CATALOG_SERVICE: Service =
    service("catalog", "shop", "catalog.shop.svc.cluster.local", Protocol::Http, &[only(&CATALOG)]);
static CART_SERVICE: Service = service("cart", "shop", "cart.shop.svc.cluster.local", Protocol::Http, &[only(&CART)]);
static CHECKOUT_SERVICE: Service =
    service("checkout", "shop", "checkout.shop.svc.cluster.local", Protocol::Http, &[only(&CHECKOUT)]);
static REVIEWS_SERVICE: Service = service(
    "reviews",
    "shop",
    "reviews.shop.svc.cluster.local",
    Protocol::Http,
    &[
        Subset { name: "v1", workload: &REVIEWS_V1, weight: 90 },
        Subset { name: "v2", workload: &REVIEWS_V2, weight: 10 },
    ],
);
static RECOMMENDATION_SERVICE: Service = service(
    "recommendation",
    "shop",
    "recommendation.shop.svc.cluster.local",
    Protocol::Http,
    &[only(&RECOMMENDATION)],
);
static INVENTORY_SERVICE: Service =
    service("inventory", "shop", "inventory.shop.svc.cluster.local", Protocol::Http, &[only(&INVENTORY)]);
static NOTIFICATION_SERVICE: Service =
    service("notification", "shop", "notification.shop.svc.cluster.local", Protocol::Http, &[only(&NOTIFICATION)]);
static ORDERS_SERVICE: Service =
    service("orders", "fulfilment", "orders.fulfilment.svc.cluster.local", Protocol::Http, &[only(&ORDERS)]);
static SHIPPING_SERVICE: Service =
    service("shipping", "fulfilment", "shipping.fulfilment.svc.cluster.local", Protocol::Grpc, &[only(&SHIPPING)]);
static PAYMENT_SERVICE: Service = Service {
    timeout_ms: 4_000,
    ..service("payment", "payments", "payment.payments.svc.cluster.local", Protocol::Grpc, &[only(&PAYMENT)])
};
static REDIS_SERVICE: Service =
    service("redis-cart", "data", "redis-cart.data.svc.cluster.local", Protocol::Tcp, &[only(&REDIS)]);
static DATABASE: Service = Service {
    name: "orders-db.example.com",
    namespace: "fulfilment",
    host: "orders-db.example.com",
    port: 5432,
    protocol: Protocol::Tcp,
    behind: Behind::ServiceEntry,
    timeout_ms: 0,
};
static MODEL_API: Service = Service {
    name: "PassthroughCluster",
    namespace: "unknown",
    host: "unknown",
    port: 443,
    protocol: Protocol::Tcp,
    behind: Behind::Passthrough,
    timeout_ms: 0,
};

/// Every service that is called.
pub static SERVICES: [&Service; 14] = [
    &FRONTEND_SERVICE,
    &CATALOG_SERVICE,
    &CART_SERVICE,
    &CHECKOUT_SERVICE,
    &REVIEWS_SERVICE,
    &RECOMMENDATION_SERVICE,
    &INVENTORY_SERVICE,
    &NOTIFICATION_SERVICE,
    &ORDERS_SERVICE,
    &SHIPPING_SERVICE,
    &PAYMENT_SERVICE,
    &REDIS_SERVICE,
    &DATABASE,
    &MODEL_API,
];

const fn get(to: &'static Service, path: &'static str, then: &'static [Call]) -> Call {
    Call { to, method: "GET", path, share: 1.0, required: true, then }
}

const fn post(to: &'static Service, path: &'static str, then: &'static [Call]) -> Call {
    Call { method: "POST", ..get(to, path, then) }
}

const fn optional(call: Call, share: f64) -> Call {
    Call { share, required: false, ..call }
}

static ASK_REDIS: [Call; 1] = [get(&REDIS_SERVICE, "", &[])];
static ASK_MODEL: [Call; 1] = [optional(get(&MODEL_API, "", &[]), 0.3)];
static ASK_STOCK: [Call; 1] = [get(&INVENTORY_SERVICE, "/stock/{id}", &[])];
const READ_CART: Call = get(&CART_SERVICE, "/cart/{id}", &ASK_REDIS);
const RECOMMEND: Call = optional(get(&RECOMMENDATION_SERVICE, "/for/{id}", &ASK_MODEL), 0.6);
const PRODUCT: Call = get(&CATALOG_SERVICE, "/products/{id}", &ASK_STOCK);

/// The requests that enter at the gateway.
pub static ENTRIES: [Entry; 4] = [
    Entry {
        weight: 40,
        call: get(
            &FRONTEND_SERVICE,
            "/",
            &[get(&CATALOG_SERVICE, "/products", &[]), RECOMMEND, optional(READ_CART, 0.7)],
        ),
    },
    Entry {
        weight: 38,
        call: get(
            &FRONTEND_SERVICE,
            "/product/{id}",
            &[PRODUCT, optional(get(&REVIEWS_SERVICE, "/reviews/{id}", &[]), 1.0), RECOMMEND],
        ),
    },
    Entry {
        weight: 13,
        call: post(&FRONTEND_SERVICE, "/cart", &[PRODUCT, post(&CART_SERVICE, "/cart/{id}", &ASK_REDIS)]),
    },
    Entry {
        weight: 9,
        call: post(
            &FRONTEND_SERVICE,
            "/checkout",
            &[post(
                &CHECKOUT_SERVICE,
                "/orders",
                &[
                    READ_CART,
                    post(&SHIPPING_SERVICE, "/shop.Shipping/Quote", &[]),
                    post(&PAYMENT_SERVICE, "/shop.Payment/Charge", &[]),
                    post(&ORDERS_SERVICE, "/orders", &[get(&DATABASE, "", &[])]),
                    optional(post(&NOTIFICATION_SERVICE, "/mail", &[]), 0.9),
                ],
            )],
        ),
    },
];

/// What the caller without a proxy (a cron job of the `legacy` namespace) asks for, in plain text.
pub static PLAINTEXT_CALL: Call = get(&INVENTORY_SERVICE, "/export", &[]);

/// The workload of that name.
pub fn workload_named(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().copied().find(|workload| workload.name == name)
}

/// The service of that name.
pub fn service_named(name: &str) -> Option<&'static Service> {
    SERVICES.iter().copied().find(|service| service.name == name)
}

impl Workload {
    /// Its identity as metrics write it: `spiffe://…`.
    pub fn principal(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}", self.namespace, self.service_account)
    }

    /// Whether its proxy is a gateway (`router`), which reports only what it sends on.
    pub fn is_gateway(&self) -> bool {
        std::ptr::eq(self, &raw const GATEWAY)
    }
}

impl Service {
    /// Envoy's name of the cluster of one subset, as its statistics and spans write it.
    pub fn cluster(&self, subset: &str) -> String {
        match self.behind {
            Behind::Passthrough => "PassthroughCluster".to_owned(),
            Behind::Mesh(_) | Behind::ServiceEntry => format!("outbound|{}|{subset}|{}", self.port, self.host),
        }
    }
}

/// One pod.
#[derive(Debug)]
pub struct Pod {
    /// Whose.
    pub workload: &'static Workload,
    /// Its name.
    pub name: String,
    /// Its address in the pod network.
    pub ip: String,
    /// The node it runs on.
    pub node: String,
}

impl Pod {
    /// Envoy's node id: `sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.cluster.local`.
    pub fn node_id(&self) -> String {
        let kind = if self.workload.is_gateway() { "router" } else { "sidecar" };
        let namespace = self.workload.namespace;
        format!("{kind}~{}~{}.{namespace}~{namespace}.svc.{TRUST_DOMAIN}", self.ip, self.name)
    }
}

/// All pods, those of one workload side by side, in the order of [`WORKLOADS`].
pub fn pods() -> Vec<Pod> {
    let mut all = Vec::new();
    for workload in WORKLOADS {
        let seed = workload.name.bytes().fold(17_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = super::random::Random::seeded(seed);
        // The letters Kubernetes draws pod suffixes from: no vowels, so no words.
        let mut letters = |count: usize| -> String {
            (0..count).map(|_| char::from(b"bcdfghjklmnpqrstvwxz2456789"[random.below(27)])).collect()
        };
        let replica_set = letters(9);
        for _ in 0..workload.pods {
            let number = all.len();
            all.push(Pod {
                workload,
                name: format!("{}-{replica_set}-{}", workload.name, letters(5)),
                ip: format!("10.42.{}.{}", number % 3, 10 + number),
                node: format!("node-{}", number % 3 + 1),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_the_demo_promises() {
        assert!(WORKLOADS.len() >= 12);
        let names: std::collections::BTreeSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len(), "a name is an identity");
        for protocol in [Protocol::Http, Protocol::Grpc, Protocol::Tcp] {
            assert!(SERVICES.iter().any(|service| service.protocol == protocol));
        }
        let Behind::Mesh(reviews) = &REVIEWS_SERVICE.behind else { panic!("reviews is in the mesh") };
        assert_eq!(reviews.iter().map(|subset| subset.weight).collect::<Vec<_>>(), [90, 10]);
    }

    #[test]
    fn pods_have_distinct_names_and_addresses_that_do_not_change() {
        let (first, again) = (pods(), pods());
        let names: std::collections::BTreeSet<_> = first.iter().map(|pod| &pod.name).collect();
        let addresses: std::collections::BTreeSet<_> = first.iter().map(|pod| &pod.ip).collect();
        assert_eq!((names.len(), addresses.len()), (first.len(), first.len()));
        assert!(first.iter().zip(&again).all(|(a, b)| a.name == b.name));
        assert!(first[0].node_id().starts_with("router~10.42.0.10~istio-ingressgateway-"), "{}", first[0].node_id());
    }

    #[test]
    fn a_cluster_is_named_as_istio_names_it() {
        assert_eq!(REVIEWS_SERVICE.cluster("v2"), "outbound|8080|v2|reviews.shop.svc.cluster.local");
        assert_eq!(MODEL_API.cluster(""), "PassthroughCluster");
    }
}
