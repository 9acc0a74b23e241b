//! The command line: parses arguments, runs a command, sets the exit code.

fn main() {}
