#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

/// A directory of this test alone, removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("meshscope-demo-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn config(&self) -> Config {
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            otlp_grpc_endpoint: "http://127.0.0.1:1".to_owned(),
            directory: self.0.clone(),
            seed: 1,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn serves_every_target_of_its_file_until_told_to_stop() {
    let scratch = Scratch::new("serve");
    let world = World::start(scratch.config()).await.unwrap();
    let targets: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(world.targets_file()).unwrap()).unwrap();
    let shutdown = CancellationToken::new();
    let address = world.address();
    let running = tokio::spawn(world.run(shutdown.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_gzip().build().unwrap();
    let groups = targets.as_array().unwrap();
    assert_eq!(groups.len(), crate::demo::traffic::pod_count());
    for group in groups {
        assert_eq!(group["targets"][0], address.to_string());
        let url = format!("http://{address}{}", group["labels"]["__metrics_path__"].as_str().unwrap());
        let page = client.get(&url).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()["content-type"], "text/plain; version=0.0.4");
        assert!(page.text().await.unwrap().contains("istio_build{component=\"proxy\""));
        let packed = client.get(&url).header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        assert_eq!(packed.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
    }
    let missing = client.get(format!("http://{address}/pods/nobody/stats/prometheus")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn writes_files_that_the_configuration_names() {
    let scratch = Scratch::new("files");
    let world = World::start(scratch.config()).await.unwrap();
    let text = crate::demo::configuration(&world);
    for file in ["targets.json", "rules/demo.yaml", "rules/istio.yaml", "rules/guide.yaml"] {
        let path = scratch.0.join(file);
        assert!(path.is_file(), "{file}");
        assert!(text.contains(&*path.to_string_lossy()), "{file} is named");
    }
    assert!(scratch.0.join("mesh/mesh.yaml").is_file());
    assert!(text.contains(&format!("url: \"{}\"", world.webhook_url())));
}

#[test]
fn the_fault_injection_is_declared_while_its_incident_lasts() {
    let scratch = Scratch::new("fault");
    let fault_file = scratch.0.join("mesh/fault.yaml");
    let mut teller = Teller { current: None, fault_file: fault_file.clone() };
    let incident = crate::demo::incidents::INCIDENTS
        .iter()
        .find(|incident| incident.name == "recommendation-fault-left-on")
        .unwrap();
    teller.tell(incident.starts);
    assert!(std::fs::read_to_string(&fault_file).unwrap().contains("fixedDelay: 2s"));
    teller.tell(incident.starts + incident.lasts);
    assert!(!fault_file.exists());
}

#[tokio::test]
async fn a_taken_address_or_a_bad_endpoint_is_named() {
    let scratch = Scratch::new("errors");
    let held = World::start(scratch.config()).await.unwrap();
    let taken = World::start(Config { listen: held.address(), ..scratch.config() }).await;
    assert!(matches!(taken, Err(Error::Listen { address, .. }) if address == held.address()));
    let bad = World::start(Config { otlp_grpc_endpoint: "not a url".to_owned(), ..scratch.config() }).await;
    assert!(matches!(bad, Err(Error::Endpoint { endpoint, .. }) if endpoint == "not a url"));
}
