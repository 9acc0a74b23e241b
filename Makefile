# meshscope: the commands a newcomer needs. `make demo` and `make test` install what is missing.
.PHONY: demo test e2e check soak bench fuzz screenshots

demo: ## a simulated mesh and the dashboard on it
	@.ci/setup build
	cargo run --locked -- demo

test: ## all tests that need nothing but PostgreSQL
	@.ci/setup test
	cargo test --locked

e2e: ## against real peers: Envoy, promtool, amtool, Chromium
	@.ci/setup e2e
	tests/e2e/run

soak: ## kill -9 at fifty random moments, PostgreSQL broken for minutes, then 90 minutes of load whose memory is judged
	@.ci/setup test
	MESHSCOPE_CRASH_ROUNDS=50 MESHSCOPE_FAULT_SECONDS=60 cargo test --locked --test it -- --nocapture crash:: _faults::
	cargo build --release --locked
	benches/peers/soak

check: ## everything a change must pass
	.ci/run

BENCH ?= --quick
bench: ## the parts by themselves, then the whole beside Prometheus and VictoriaMetrics; BENCH= for half an hour a peer
	cargo bench --locked
	cargo build --release --locked
	benches/peers/run $(BENCH)

fuzz: ## made-up input for every parser, 5 minutes each: `fuzz/run 60 promql` for one
	fuzz/run

screenshots: ## pictures of the pages, taken with Chromium, in target/screenshots
	@.ci/setup e2e
	cargo build --locked
	tests/e2e/screenshots target/screenshots
