//! Generates Grafana dashboards and the objects that carry them.
