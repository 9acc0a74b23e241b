//! Evaluates rule groups into alert states and recordings exactly as Prometheus does.
