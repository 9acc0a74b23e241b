//! Turns edge minutes into a service graph with health.
