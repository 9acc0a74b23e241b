//! `mesh.discover`: the scrape jobs of a mesh, so that nobody writes them by hand.
//!
//! In: [`Config`]. Out: YAML that Prometheus reads as well, and the jobs it stands for. All jobs look at pods, so that
//! they share one watch and need no right but `list` and `watch` on pods. Ports and names: Istio 1.29, Linkerd 2.18.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::ScrapeConfig;
use crate::yaml;

/// A mesh whose parts are scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Sidecars, gateways, istiod.
    Istio,
    /// Also ztunnel and waypoints.
    Ambient,
    /// Proxies and the control plane.
    Linkerd,
}

/// The block `mesh`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The meshes whose parts become scrape jobs: one or a list.
    pub discover: Presets,
    /// Address of the API server. Default: that of the cluster we run in.
    pub api_server: Option<String>,
    /// A kubeconfig file, of which the current context is used.
    pub kubeconfig_file: Option<std::path::PathBuf>,
}

/// One or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presets(pub Vec<Preset>);

impl<'de> Deserialize<'de> for Presets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Presets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("istio, ambient or linkerd, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Presets, E> {
                let one = Preset::deserialize(serde::de::value::StrDeserializer::<E>::new(text))?;
                Ok(Presets(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Presets, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Presets(all))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// Sidecars, gateways and waypoints: all of them have the port under that name. With native sidecars the proxy is an init
/// container, which the role `pod` lists too.
const PROXIES: &str = "
# Envoy's own statistics of sidecars, gateways and waypoints: port 15090.
- job_name: istio-proxies
  metrics_path: /stats/prometheus
  kubernetes_sd_configs: [@]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: http-envoy-prom, action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
";

const ISTIOD: &str = "
# The control plane: port 15014.
- job_name: istiod
  kubernetes_sd_configs: [@]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_label_app, __meta_kubernetes_pod_container_name], regex: istiod;discovery, action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
  - {source_labels: [__meta_kubernetes_pod_ip], regex: '([^:]+)', target_label: __address__, replacement: '$1:15014'}
  - {source_labels: [__meta_kubernetes_pod_ip], regex: '(.*:.*)', target_label: __address__, replacement: '[$1]:15014'}
";

const ZTUNNEL: &str = "
# ztunnel, one per node, speaks for all pods of the node: port 15020.
- job_name: ztunnel
  metrics_path: /stats/prometheus
  kubernetes_sd_configs: [@]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_label_app, __meta_kubernetes_pod_container_name], regex: ztunnel;istio-proxy, action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
  - {source_labels: [__meta_kubernetes_pod_ip], regex: '([^:]+)', target_label: __address__, replacement: '$1:15020'}
  - {source_labels: [__meta_kubernetes_pod_ip], regex: '(.*:.*)', target_label: __address__, replacement: '[$1]:15020'}
";

const LINKERD: &str = "
# Proxies: port 4191. The owner's name becomes deployment, statefulset and so on, the labels of the pod follow.
- job_name: linkerd-proxy
  kubernetes_sd_configs: [@]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_name, __meta_kubernetes_pod_container_port_name], regex: linkerd-proxy;linkerd-admin, action: keep}
  - {source_labels: [__meta_kubernetes_pod_labelpresent_linkerd_io_control_plane_ns], regex: 'true', action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
  - {source_labels: [__meta_kubernetes_pod_label_linkerd_io_proxy_job], target_label: k8s_job}
  - {regex: __meta_kubernetes_pod_label_linkerd_io_proxy_job, action: labeldrop}
  - {regex: '__meta_kubernetes_pod_label_linkerd_io_proxy_(.+)', action: labelmap}
  - {regex: '__meta_kubernetes_pod_label_linkerd_io_proxy_(.+)', action: labeldrop}
  - {regex: '__meta_kubernetes_pod_label_linkerd_io_(.+)', action: labelmap}
  - {regex: '__meta_kubernetes_pod_label_linkerd_io_(.+)', action: labeldrop}
  - {regex: '__meta_kubernetes_pod_label_(.+)', action: labelmap}

# The control plane: the admin ports of its containers.
- job_name: linkerd-control-plane
  kubernetes_sd_configs: [@]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_labelpresent_linkerd_io_control_plane_component], regex: 'true', action: keep}
  - {source_labels: [__meta_kubernetes_pod_container_name], regex: linkerd-proxy, action: drop}
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: admin|admin-http|.+-admin, action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
  - {source_labels: [__meta_kubernetes_pod_label_linkerd_io_control_plane_component], target_label: component}
";

/// Said of every target, last, so that no label of a pod takes its place.
const WHERE: &str = "  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
";

impl Config {
    /// The entries of `scrape_configs` that it stands for, as YAML.
    pub fn expanded(&self) -> String {
        let has = |preset| self.discover.0.contains(&preset);
        let mut blocks = Vec::new();
        if has(Preset::Istio) || has(Preset::Ambient) {
            blocks.extend([PROXIES, ISTIOD]);
        }
        if has(Preset::Ambient) {
            blocks.push(ZTUNNEL);
        }
        if has(Preset::Linkerd) {
            blocks.extend(LINKERD.split("\n\n"));
        }
        // JSON texts are YAML.
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut entry = "{role: pod".to_owned();
        if let Some(server) = &self.api_server {
            entry += &format!(", api_server: {}", text(server));
        }
        if let Some(file) = &self.kubeconfig_file {
            entry += &format!(", kubeconfig_file: {}", text(&file.to_string_lossy()));
        }
        entry += "}";
        blocks.iter().map(|block| format!("{}\n{WHERE}", block.trim().replace('@', &entry))).collect()
    }

    /// The same, read.
    pub fn scrape_configs(&self) -> Vec<ScrapeConfig> {
        let text = self.expanded();
        if text.is_empty() {
            return Vec::new();
        }
        yaml::decode(&text).0.expect("invariant: the presets are valid, a test reads each")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Defaults, jobs};

    #[test]
    fn every_preset_stands_for_valid_jobs() {
        for (text, names) in [
            ("{}", vec![]),
            ("discover: istio", vec!["istio-proxies", "istiod"]),
            ("discover: [ambient, istio]", vec!["istio-proxies", "istiod", "ztunnel"]),
            ("{discover: linkerd, api_server: 'https://k:6443'}", vec!["linkerd-proxy", "linkerd-control-plane"]),
            (
                "{discover: [istio, linkerd], kubeconfig_file: '/a b\"/c'}",
                vec!["istio-proxies", "istiod", "linkerd-proxy", "linkerd-control-plane"],
            ),
        ] {
            let (config, problems) = yaml::decode::<Config>(text);
            assert_eq!(problems, [], "{text}");
            let config = config.expect("a configuration");
            let configs = config.scrape_configs();
            let (jobs, errors) = jobs(&configs, &Defaults::default());
            assert!(errors.is_empty(), "{text}: {errors:?}");
            assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), names, "{text}");
            for sd in configs.iter().flat_map(|config| &config.kubernetes_sd_configs) {
                assert_eq!((&sd.api_server, &sd.kubeconfig_file), (&config.api_server, &config.kubeconfig_file));
            }
        }
        let (_, problems) = yaml::decode::<Config>("discover: [consul]");
        assert!(problems[0].message.contains("consul"), "{problems:?}");
    }
}
