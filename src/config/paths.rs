//! Relative paths of a configuration file are taken from its folder, as in Prometheus and Alertmanager.
//!
//! In: the tree of the file. Out: the same with whole paths. A path is the text of a key that ends in `_file`, of `files`
//! (file discovery, header files), of `paths` (the audit) and of `templates`; what stands in maps of free names, as labels do, is left alone.
//! `rule_files` stay as written: who reads them takes them from the folder, so that their groups keep short names.

use std::path::Path;

use crate::yaml::{Node, Value};

/// Keys whose mappings hold names of the user's own.
const FREE: [&str; 11] = [
    "labels",
    "external_labels",
    "params",
    "headers",
    "match",
    "match_re",
    "source_match",
    "source_match_re",
    "target_match",
    "target_match_re",
    "details",
];

/// Makes the paths below `node` whole.
pub(super) fn resolve(node: &mut Node, folder: &Path) {
    if folder.as_os_str().is_empty() {
        return;
    }
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| resolve(item, folder)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                match key.as_str() {
                    Some(key) if FREE.contains(&key) => {}
                    Some(key)
                        if key.ends_with("_file")
                            || matches!(
                                key,
                                "files" | "paths" | "templates" | "bearer_token_files" | "token_files"
                            ) =>
                    {
                        join(value, folder)
                    }
                    _ => resolve(value, folder),
                }
            }
        }
        _ => {}
    }
}

fn join(node: &mut Node, folder: &Path) {
    match &mut node.value {
        Value::String(path) if !path.is_empty() => *path = folder.join(&*path).display().to_string(),
        Value::Sequence(items) => items.iter_mut().for_each(|item| join(item, folder)),
        // A header called `…_file`.
        Value::Mapping(_) => resolve(node, folder),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn relative_paths_are_taken_from_the_folder_of_the_file_and_free_names_are_left_alone() {
        let text = "
global: {external_labels: {my_file: a.pem}}
scrape_configs:
- job_name: j
  static_configs: [{targets: ['a:1'], labels: {cert_file: x}}]
  params: {a_file: [b]}
  file_sd_configs: [{files: [targets/*.yml, /abs/t.json]}]
  basic_auth: {username: u, password_file: secret}
  tls_config: {ca_file: ca.pem, cert_file: ./c.pem, key_file: /k.pem}
  http_headers: {X-A: {files: [h.txt]}}
rule_files: [rules/*.yml]
remote_write: [{url: 'http://r/', authorization: {credentials_file: token}}]
alerting: {alertmanagers: [{file_sd_configs: [{files: [am.yml]}]}]}
";
        let config = Config::parse(text, Some(Path::new("/etc/mesh/meshscope.yaml"))).expect("valid");
        let job = &config.jobs[0].config;
        let shown = |path: &Path| path.display().to_string();
        let files: Vec<String> = job.file_sd_configs[0].files.iter().map(|path| shown(path)).collect();
        assert_eq!(files, ["/etc/mesh/targets/*.yml", "/abs/t.json"]);
        let tls = &job.tls_config;
        let of =
            [&tls.ca_file, &tls.cert_file, &tls.key_file, &job.basic_auth.clone().unwrap_or_default().password_file]
                .map(|path| path.as_deref().map(shown).unwrap_or_default());
        assert_eq!(of, ["/etc/mesh/ca.pem", "/etc/mesh/./c.pem", "/k.pem", "/etc/mesh/secret"]);
        assert_eq!(shown(&job.http_headers["X-A"].files[0]), "/etc/mesh/h.txt");
        assert_eq!(job.static_configs[0].labels["cert_file"], "x");
        assert_eq!((config.external_labels.value("my_file"), job.params["a_file"][0].as_str()), ("a.pem", "b"));
        assert_eq!(config.rule_files, ["rules/*.yml"]);
        let token = config.forward.remotes[0].authorization.clone().unwrap_or_default().credentials_file;
        assert_eq!(token.as_deref().map(shown).as_deref(), Some("/etc/mesh/token"));
        assert_eq!(shown(&config.alertmanager_jobs[0].config.file_sd_configs[0].files[0]), "/etc/mesh/am.yml");
    }
}
