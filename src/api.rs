//! HTTP APIs: Prometheus, Alertmanager, Jaeger, Tempo shapes and our own.
