//! Receives OTLP over gRPC and HTTP and decodes it.
