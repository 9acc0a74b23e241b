//! Outgoing HTTP as configuration describes it: TLS, authentication, proxies.
