-- What each edge of the mesh did, minute by minute and hour by hour.
--
-- An edge is one caller, one called workload and service, as one side reports it. Outcomes and histogram layouts repeat
-- in every row, so they are stored once and named by the hash of their content.

CREATE TABLE edge (
    edge_id               bigint PRIMARY KEY,
    mesh                  text NOT NULL,
    reporter              text NOT NULL,
    protocol              text NOT NULL,
    source_cluster        text,
    source_namespace      text,
    source_workload       text,
    source_app            text,
    source_version        text,
    destination_cluster   text,
    destination_namespace text,
    destination_workload  text,
    destination_app       text,
    destination_version   text,
    service               text,
    service_namespace     text,
    service_host          text,
    source_principal      text,
    destination_principal text,
    security              text NOT NULL
);

-- How requests end. What counts as an error: no response (unless the caller hung up), HTTP 5xx, a gRPC status other
-- than OK; not what Envoy injected on purpose (flags DI and FI).
CREATE TABLE outcome (
    outcome_id  bigint PRIMARY KEY,
    code        text NOT NULL,
    grpc_status text NOT NULL,
    flags       text NOT NULL,
    is_injected boolean NOT NULL GENERATED ALWAYS AS (string_to_array(flags, ',') && ARRAY['DI', 'FI']) STORED,
    is_error    boolean NOT NULL GENERATED ALWAYS AS (
        NOT string_to_array(flags, ',') && ARRAY['DI', 'FI']
        AND (code ~ '^5[0-9][0-9]$'
             OR (code = '0' AND NOT string_to_array(flags, ',') && ARRAY['DC'])
             OR grpc_status ~ '^([1-9]|1[0-6])$')
    ) STORED
);

CREATE TABLE latency_layout (
    layout_id bigint PRIMARY KEY,
    bounds_ms double precision[] NOT NULL
);

CREATE TABLE edge_rollup_1m (
    minute             timestamptz NOT NULL,
    edge_id            bigint NOT NULL,
    outcome_ids        bigint[] NOT NULL,
    outcome_counts     double precision[] NOT NULL,
    layout_id          bigint,
    latency_counts     double precision[] NOT NULL,
    latency_sum_ms     double precision NOT NULL,
    request_bytes      double precision NOT NULL,
    response_bytes     double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL,
    PRIMARY KEY (edge_id, minute)
) PARTITION BY RANGE (minute);
CREATE INDEX edge_rollup_1m_by_minute ON edge_rollup_1m (minute);
CREATE TABLE edge_rollup_1m_other PARTITION OF edge_rollup_1m DEFAULT;

CREATE TABLE edge_rollup_1h (
    hour               timestamptz NOT NULL,
    edge_id            bigint NOT NULL,
    outcome_ids        bigint[] NOT NULL,
    outcome_counts     double precision[] NOT NULL,
    layout_id          bigint,
    latency_counts     double precision[] NOT NULL,
    latency_sum_ms     double precision NOT NULL,
    request_bytes      double precision NOT NULL,
    response_bytes     double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL,
    PRIMARY KEY (edge_id, hour)
) PARTITION BY RANGE (hour);
CREATE INDEX edge_rollup_1h_by_hour ON edge_rollup_1h (hour);
CREATE TABLE edge_rollup_1h_other PARTITION OF edge_rollup_1h DEFAULT;
