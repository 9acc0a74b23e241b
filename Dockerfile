# syntax=docker/dockerfile:1
# The image of meshscope: one program on distroless Debian, without shell, package manager or root.
#   docker build -t meshscope:0.1.0 .
#   docker buildx build --sbom=true --provenance=true -t registry.example/meshscope:0.1.0 --push .
# It has no PostgreSQL: give it DATABASE_URL. docs/install.md says how it is run.

FROM rust:1.94-slim-bookworm AS build
# Node bundles the scripts of the pages, cc and make build jemalloc, cc zstd and ring.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# A build without scripts would be a warning only; in an image it is a mistake.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    npm --version \
 && cargo build --release --locked \
 && install -D -m 0755 target/release/meshscope /image/usr/local/bin/meshscope \
 && install -D -m 0644 LICENSE /image/usr/share/doc/meshscope/LICENSE

# The bill of materials of the crates, CycloneDX 1.5. What the base image has, `buildx --sbom=true` adds.
FROM build AS sbom
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked --root /tools cargo-cyclonedx@0.5.9 \
 && /tools/bin/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --override-filename sbom.cdx \
 && install -D -m 0644 sbom.cdx.json /image/usr/share/doc/meshscope/sbom.cdx.json

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="meshscope" \
      org.opencontainers.image.description="Watches a service mesh: metrics, traces, alerts and the service graph in one process on one PostgreSQL" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=sbom /image/ /
ENV MESHSCOPE_CONFIG=/etc/meshscope/meshscope.yaml
WORKDIR /tmp
USER 65532:65532
EXPOSE 7070 4317 4318
STOPSIGNAL SIGTERM
# Kubernetes does not look at it: the chart has probes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["/usr/local/bin/meshscope", "doctor", "--probe", "healthy"]
ENTRYPOINT ["/usr/local/bin/meshscope"]
CMD ["serve"]
