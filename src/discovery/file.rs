//! Target files of `file_sd_configs`: which files a pattern names, and what a file holds.
//!
//! Invariant: a file is read whole and bounded, or not at all.

use std::path::{Path, PathBuf};

use super::Group;

/// The largest target file that is read.
const FILE_LIMIT_BYTES: u64 = 32 << 20;

/// Whether it is a path that `file_sd_configs` allows.
pub(super) fn is_pattern(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let parent_has_star = path.parent().is_some_and(|parent| parent.to_string_lossy().contains('*'));
    let stars = path.file_name().map_or(0, |name| name.to_string_lossy().matches('*').count());
    matches!(extension.to_ascii_lowercase().as_str(), "json" | "yml" | "yaml") && !parent_has_star && stars <= 1
}

/// The folder whose changes may change what the pattern names.
pub(super) fn folder(pattern: &Path) -> &Path {
    pattern.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The files a pattern names now, sorted. A pattern without `*` names its file even when that is missing.
pub(super) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let entries = std::fs::read_dir(folder(pattern)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
        .map(|entry| folder(pattern).join(entry.file_name()))
        .collect();
    files.sort();
    files
}

/// Reads one target file.
///
/// # Errors
/// Says which line is wrong; the caller keeps the last good list.
pub(super) fn read(path: &Path) -> Result<Vec<Group>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("read `{shown}`: {error}"))?.len();
    if size > FILE_LIMIT_BYTES {
        return Err(format!("`{shown}` has {size} bytes, more than the limit of {FILE_LIMIT_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("read `{shown}`: {error}"))?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return serde_json::from_str(&text).map_err(|error| format!("`{shown}`: {error}"));
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match crate::yaml::decode(&text) {
        (Some(groups), problems) if problems.is_empty() => Ok(groups),
        (_, problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(format!("`{shown}`: {}", problems.join("; ")))
        }
    }
}
