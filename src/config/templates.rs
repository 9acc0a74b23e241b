//! Reads the template files that `templates` names. In: patterns. Out: their texts; what is wrong is told, not fatal.

use std::path::Path;

use crate::{notify, rules};

/// Most template files that are read, and most bytes of one.
const TEMPLATE_FILES_MAX: usize = 1000;
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// The template files that the patterns name, each pattern's in the order of their names. One that names none is fine:
/// the file may come later.
pub(super) fn read(patterns: &[String], folder: &Path, wrong: &mut dyn FnMut(String)) -> Vec<notify::TemplateFile> {
    let mut files = Vec::new();
    for pattern in patterns {
        match rules::glob(&folder.join(pattern)) {
            Ok(found) => files.extend(found),
            Err(reason) => wrong(format!("templates: {pattern:?}: {reason}")),
        }
    }
    if files.len() > TEMPLATE_FILES_MAX {
        wrong(format!("templates: {} files, of at most {TEMPLATE_FILES_MAX}", files.len()));
        return Vec::new();
    }
    let mut read = Vec::new();
    for file in files {
        let size = std::fs::metadata(&file).map_or(0, |about| about.len());
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match std::fs::read_to_string(&file) {
            _ if size > TEMPLATE_BYTES_MAX => {
                wrong(format!("templates: `{}` is larger than {TEMPLATE_BYTES_MAX} bytes", file.display()));
            }
            Ok(text) => read.push(notify::TemplateFile { name, text }),
            Err(error) => wrong(format!("templates: read `{}`: {error}", file.display())),
        }
    }
    read
}
