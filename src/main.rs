//! The command line: parses arguments, runs a command, sets the exit code.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Threads for work that takes long: more than the queries that may run at once, so that pages never wait for them, and
/// few enough that what the allocator keeps for each does not add up.
const BLOCKING_THREADS: usize = 48;

fn main() -> ExitCode {
    // Before any HTTP client is made: the TLS library must be told which cryptography to use.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("meshscope: a TLS provider was installed twice");
        return ExitCode::FAILURE;
    }
    let arguments = meshscope::cli::Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("meshscope: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(arguments.run()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("meshscope: {error:#}");
            ExitCode::FAILURE
        }
    }
}
