//! The machine: kernel, memory, disk, the limits of the server's process, and the last warnings of its log.
//!
//! All of it is of the machine that the doctor runs on; the server may be elsewhere, then its process is not found.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Piece;
use super::checks::{Facts, Process};
use crate::store;

/// How long another program may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(5);
/// How much of a log's end is read.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// Most lines of a log that are taken.
const LOG_LINES_MAX: usize = 500;

/// Files of Linux, and what they are called in the bundle.
const FILES: [(&str, &str); 6] = [
    ("machine-kernel.txt", "/proc/version"),
    ("machine-system.txt", "/etc/os-release"),
    ("machine-memory.txt", "/proc/meminfo"),
    ("machine-load.txt", "/proc/loadavg"),
    ("machine-pressure.txt", "/proc/pressure/memory"),
    ("machine-memory-limit.txt", "/sys/fs/cgroup/memory.max"),
];

/// The files that the command line names.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) config: Option<&'a Path>,
    pub(super) log: Option<&'a Path>,
}

pub(super) async fn gather(storage: &store::Config, files: Files<'_>, pieces: &mut Vec<Piece>, facts: &mut Facts) {
    let Files { config, log } = files;
    for (name, path) in FILES {
        let text = fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"));
        if name == "machine-memory.txt" {
            facts.memory_available_ratio = text.as_deref().ok().and_then(available_ratio);
        }
        pieces.push(Piece::new(name, text));
    }
    match server_process(config) {
        Ok((pid, process)) => {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let open = process.open_files.map_or("?".to_owned(), |count| count.to_string());
            let text = format!("open files: {open}\n\n{}\n{}", read("limits"), read("status"));
            pieces.push(Piece::new("process.txt", Ok(text)));
            facts.process = Some(process);
        }
        Err(reason) => pieces.push(Piece::new("process.txt", Err(reason))),
    }
    if storage.database_url.is_none() {
        let folder = storage.path.clone().unwrap_or_else(store::PrivateServer::default_folder);
        let free = program("df", &["-Pk", &folder.to_string_lossy()]).await;
        facts.disk_free_ratio = free.as_deref().ok().and_then(free_ratio);
        pieces.push(Piece::new("machine-disk.txt", free));
    }
    let log = match log {
        Some(path) => log_end(path),
        None => {
            // Not `-p warning`: to systemd all lines of a service have the same priority.
            let all = program("journalctl", &["-u", "meshscope", "-n", "20000", "--no-pager", "-o", "short-iso"]).await;
            all.map(|text| warnings_of(&text))
        }
    };
    facts.logged = log.as_deref().ok().map(|text| text.lines().count());
    pieces.push(Piece::new("log-warnings.txt", log));
}

/// `MemAvailable` of `MemTotal`.
fn available_ratio(text: &str) -> Option<f64> {
    let of = |key: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
    };
    Some(of("MemAvailable:")? / of("MemTotal:")?)
}

/// Of what `df -Pk` prints: columns 3 and 4 are what is used and what is free.
fn free_ratio(text: &str) -> Option<f64> {
    let columns: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let number = |i: usize| columns.get(i)?.parse::<f64>().ok();
    let (used, free) = (number(2)?, number(3)?);
    (used + free > 0.0).then(|| free / (used + free))
}

/// The process `meshscope serve` or `meshscope demo`; of several the one whose command line names the configuration.
fn server_process(config: Option<&Path>) -> Result<(u32, Process), String> {
    let words_of = |pid: u32| -> Vec<Vec<u8>> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    };
    let is_server = |pid: &u32| {
        let words = words_of(*pid);
        let name = words.first().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
        name == Some(b"meshscope") && words.iter().any(|word| word == b"serve" || word == b"demo")
    };
    let entries = fs::read_dir("/proc").map_err(|error| format!("read /proc: {error}"))?.flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_server).collect();
    if let (Some(config), 2..) = (config, pids.len()) {
        pids.retain(|pid| words_of(*pid).iter().any(|word| word == config.as_os_str().as_encoded_bytes()));
    }
    let &[pid] = pids.as_slice() else {
        return Err(format!("{} servers on this machine can be meant", pids.len()));
    };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    Ok((
        pid,
        Process {
            open_files: fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count),
            open_files_max: line.and_then(|line| line.split_whitespace().next()?.parse().ok()),
        },
    ))
}

/// What another program prints; none of them changes anything.
async fn program(name: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(name);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROGRAM_LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("{name} took longer than {PROGRAM_LIMIT:?}"))?;
    let output = output.map_err(|error| format!("run {name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{name}: {}", text(&output.stderr).trim()))
    }
}

/// The warnings and errors among the last lines of a log.
fn log_end(path: &Path) -> Result<String, String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(PathBuf::from(path))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(warnings_of(&text))
}

/// The last of its warnings and errors.
fn warnings_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| is_warning(line)).collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].iter().map(|line| format!("{line}\n")).collect()
}

/// In both formats that the server writes.
fn is_warning(line: &str) -> bool {
    let levels = [" WARN ", " ERROR ", "\"level\":\"WARN\"", "\"level\":\"ERROR\""];
    levels.iter().any(|level| line.contains(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_read_from_what_linux_prints() {
        let memory = "MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:    4000 kB\n";
        assert_eq!(available_ratio(memory), Some(0.25));
        assert_eq!(available_ratio("MemTotal: 1 kB\n"), None);
        let disk = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 100 60 20 75% /\n";
        assert_eq!(free_ratio(disk), Some(0.25));
        assert_eq!(free_ratio("df: no such file\n"), None);
    }

    #[test]
    fn warnings_are_told_in_both_formats_of_the_log() {
        let check = |line: &str, expect: bool| assert_eq!(is_warning(line), expect, "{line}");
        check("2026-01-01T00:00:00Z  WARN meshscope::store: away", true);
        check("{\"timestamp\":\"t\",\"level\":\"ERROR\",\"fields\":{}}", true);
        check("2026-01-01T00:00:00Z  INFO meshscope: WARNINGS are few", false);
    }
}
