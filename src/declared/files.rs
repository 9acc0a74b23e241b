//! Files and folders: looked at every few seconds, read again once they stand still.
//!
//! Invariant: a document that became unreadable keeps what was last read of its file, so that a slip of the pen deletes
//! nothing.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::Declared;
use crate::mesh::{Resource, ResourceId, Snapshot, read_paths};

/// How long files must stand still before they are read: a tool that writes several is waited for.
const STILL: Duration = Duration::from_millis(300);
/// Looks that wait for files to stand still; then they are read as they are.
const LOOKS_MAX: usize = 10;
/// Most files that are looked at.
const FILES_MAX: usize = 100_000;
/// Deepest folder that is looked into; as [`read_paths`] does.
const DEPTH_MAX: usize = 32;
/// Problems that are told.
const PROBLEMS_MAX: usize = 100;

/// What tells that a file is another: its time and size.
type Looks = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Reads the files of the configuration now and whenever they change, for ever.
pub(super) async fn follow(declared: Declared) {
    let config = declared.config().clone();
    if config.files.is_empty() {
        return std::future::pending().await;
    }
    let mut tick = tokio::time::interval(config.file_interval.get());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known: Option<Looks> = None;
    loop {
        tick.tick().await;
        let mut now = look(&config.files).await;
        if known.as_ref() == Some(&now) {
            continue;
        }
        for _ in 0..LOOKS_MAX {
            // At the start nobody waits: half a file is read again when it is whole.
            if known.is_none() {
                break;
            }
            tokio::time::sleep(STILL).await;
            let later = look(&config.files).await;
            if later == now {
                break;
            }
            now = later;
        }
        read(&declared, now.len()).await;
        known = Some(now);
    }
}

async fn read(declared: &Declared, files: usize) {
    let config = declared.config().clone();
    let before = declared.seen();
    let reading = tokio::task::spawn_blocking(move || {
        let fresh = read_paths(&config.files, &config.namespace);
        let whole = !fresh.unread.iter().any(|one| !one.other_kind);
        (keeping(fresh, &before.files), whole)
    });
    let (snapshot, whole) = match reading.await {
        Ok(read) => read,
        Err(crashed) => return tracing::error!("reading what is declared crashed: {crashed}"),
    };
    let faults = snapshot.unread.iter().filter(|one| !one.other_kind);
    let told = |one: &crate::mesh::Unread| {
        let file = one.place.file.as_deref().unwrap_or("?");
        format!("{file}:{}: {}", one.place.line, one.message)
    };
    let problems: Vec<String> = faults.take(PROBLEMS_MAX).map(told).collect();
    let counters = declared.counters();
    counters.file_reads.fetch_add(1, Relaxed);
    counters.unread.fetch_add(problems.len() as u64, Relaxed);
    problems.iter().for_each(|problem| tracing::warn!("declared for the mesh: {problem}"));
    let (objects, at) = (snapshot.len(), declared.0.clock.now());
    declared.publish(|parts| {
        parts.files = Arc::new(snapshot);
        parts.files_whole |= whole;
        parts.status.files = Some(super::FilesStatus { objects, files, read_at: Some(at), problems });
    });
}

/// What was read, and from files that now have a fault what was last read of them.
fn keeping(fresh: Snapshot, before: &Snapshot) -> Snapshot {
    let faulty: Vec<Arc<str>> =
        fresh.unread.iter().filter(|one| !one.other_kind).filter_map(|one| one.place.file.clone()).collect();
    if faulty.is_empty() || before.is_empty() {
        return fresh;
    }
    let has: HashSet<&ResourceId> = fresh.iter().map(|one| &one.id).collect();
    let is_faulty = |one: &&Arc<Resource>| {
        let Some(file) = &one.place.file else { return false };
        // A folder that cannot be listed is at fault for all below it.
        !has.contains(&one.id) && faulty.iter().any(|fault| Path::new(&**file).starts_with(Path::new(&**fault)))
    };
    let kept: Vec<Arc<Resource>> = before.shared().filter(is_faulty).map(Arc::clone).collect();
    let mut all = Snapshot::new(kept.into_iter().chain(fresh.shared().map(Arc::clone)), fresh.unread.clone());
    all.repeated.clone_from(&fresh.repeated);
    all
}

async fn look(paths: &[PathBuf]) -> Looks {
    let paths = paths.to_vec();
    let looking = tokio::task::spawn_blocking(move || {
        let mut looks = Looks::new();
        paths.iter().for_each(|path| look_at(path, 0, &mut looks));
        looks
    });
    looking.await.unwrap_or_default()
}

fn look_at(path: &Path, depth: usize, looks: &mut Looks) {
    let Ok(about) = std::fs::metadata(path) else { return };
    if !about.is_dir() {
        if looks.len() < FILES_MAX {
            looks.insert(path.to_owned(), (about.modified().ok(), about.len()));
        }
        return;
    }
    if depth == DEPTH_MAX {
        return;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    for entry in entries {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let path = entry.path();
        let yaml = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if !hidden && (yaml || path.is_dir()) {
            look_at(&path, depth + 1, looks);
        }
    }
}
