# meshscope: the commands a newcomer needs. `make demo` and `make test` install what is missing.
.PHONY: demo test e2e check bench screenshots

demo: ## a simulated mesh and the dashboard on it
	@.ci/setup build
	cargo run --locked -- demo

test: ## all tests that need nothing but PostgreSQL
	@.ci/setup test
	cargo test --locked

e2e: ## against real peers: Envoy, promtool, amtool, Chromium
	@.ci/setup e2e
	tests/e2e/run

check: ## everything a change must pass
	.ci/run

BENCH ?= --quick
bench: ## the parts by themselves, then the whole beside Prometheus and VictoriaMetrics; BENCH= for half an hour a peer
	cargo bench --locked
	cargo build --release --locked
	benches/peers/run $(BENCH)

screenshots: ## pictures of the pages, taken with Chromium, in target/screenshots
	@.ci/setup e2e
	cargo build --locked
	tests/e2e/screenshots target/screenshots
