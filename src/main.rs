//! The command line: parses arguments, runs a command, sets the exit code.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before any HTTP client is made: the TLS library must be told which cryptography to use.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("meshscope: a TLS provider was installed twice");
        return ExitCode::FAILURE;
    }
    let arguments = meshscope::cli::Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
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
