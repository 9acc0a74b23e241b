//! Reads Istio, Linkerd, Gateway API and Kubernetes resources into one snapshot.
