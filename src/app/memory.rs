//! How much memory the process uses and may use, and safe mode while that is short.
//!
//! In: `/proc`, the control group, what the loaded rules read. Out: measurements for [`crate::series::SafeMode`].
//! Invariant: without these files (or where nothing limits memory) safe mode never begins by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::rules::RuleSet;
use crate::series::{Head, Needs, SafeModeChange};

/// How often memory is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);
/// How far back a selector without a range reads: PromQL's default lookback.
const LOOKBACK: Duration = Duration::from_secs(300);

/// The limit when the configuration has none: three quarters of what the control group or the machine has.
pub(super) fn default_limit() -> u64 {
    available(Path::new("/")).map_or(0, |bytes| bytes / 4 * 3)
}

/// What rules read. The metric that a recording rule of the same file reads is read all the same.
pub(super) fn needs(rules: &RuleSet) -> Needs {
    let mut needs = Needs::default();
    for rule in rules.groups.iter().flat_map(|group| &group.rules) {
        let reach = rule.expr().reach(LOOKBACK);
        for selector in rule.expr().selectors() {
            needs.add(selector.matchers, reach);
        }
    }
    needs
}

/// Measures memory and follows the rules, until told to stop.
pub(super) async fn watch(head: Head, mut rules: watch::Receiver<Arc<RuleSet>>, clock: Clock, stop: CancellationToken) {
    let mut tick = tokio::time::interval(MEASURE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rules.mark_changed();
    let mut rules_live = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = rules.changed(), if rules_live => match changed {
                Ok(()) => head.safe_mode().set_needs(needs(&rules.borrow_and_update())),
                Err(_) => rules_live = false,
            },
            _ = tick.tick() => {
                head.note_created_series();
                if let Some(used) = used_bytes() {
                    observe(&head, used, &clock).await;
                }
            }
        }
    }
}

async fn observe(head: &Head, used_bytes: u64, clock: &Clock) {
    let now = clock.now();
    let limit_bytes = head.safe_mode().state().limit_bytes;
    match head.safe_mode().observe(used_bytes, now) {
        None => {}
        Some(SafeModeChange::Began) => {
            tracing::warn!(
                used_bytes,
                limit_bytes,
                "memory is short ({} of {} MiB, storage.memory_limit): safe mode begins. Rules and edges go on; samples \
                 that no rule reads are not stored, and samples stay in memory only as long as rules look back",
                used_bytes >> 20,
                limit_bytes >> 20,
            );
            let head = head.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || head.collect_garbage(now)).await {
                tracing::error!("letting old samples go failed: {error}");
            }
        }
        Some(SafeModeChange::Ended) => {
            tracing::info!(used_bytes, limit_bytes, "memory suffices again: safe mode ends, all samples are stored");
        }
    }
}

/// Bytes of memory that belong to this process alone.
fn used_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The memory there is: the tightest limit of the control group and those above it, at most what the machine has.
fn available(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    Some(group_limits(root).into_iter().fold(machine, u64::min))
}

fn group_limits(root: &Path) -> Vec<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|one| one == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = PathBuf::from(path.trim_start_matches('/'));
        loop {
            // Inside a container the group's own folder is the root, so a path from outside may not exist.
            let text = std::fs::read_to_string(root.join(base).join(&path).join(file)).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>().ok());
            if !path.pop() {
                break;
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_tightest_limit_counts() {
        let root = std::env::temp_dir().join(format!("meshscope-memory-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(available(&root), None);
        write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");
        assert_eq!(available(&root), Some(1000 << 10));
        write("proc/self/cgroup", "0::/a/b\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(available(&root), Some(1000 << 10));
        write("sys/fs/cgroup/a/memory.max", "5000\n");
        assert_eq!(available(&root), Some(5000));
        write("proc/self/cgroup", "4:cpu:/x\n3:memory,hugetlb:/docker/1\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
        assert_eq!(available(&root), Some(7000));
        std::fs::remove_dir_all(&root).unwrap();
        assert!(used_bytes().unwrap() > 100_000);
    }
}
