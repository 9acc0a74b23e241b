//! Our own logs, metrics and traces.
