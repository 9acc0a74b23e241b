//! Parses, selects for and evaluates PromQL exactly as Prometheus 3 does.
