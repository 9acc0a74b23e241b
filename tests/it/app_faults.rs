//! The whole program under load while PostgreSQL is stopped, hung, slow, cut off and out of disk.
//!
//! Targets know every page they served (`crash`): each must be stored once. Meanwhile scraping and queries of what memory
//! holds go on, memory stays bounded, and all recovers without a restart. `MESHSCOPE_FAULT_SECONDS` says how long each
//! fault lasts (default 4).

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::app::{eventually, new_folder};
use crate::chaos::{Chaos, Wire};
use crate::crash::{Program, Proxies, Random, check_samples, from_environment, now_ms, proxies};
use crate::postgres;

/// Most memory of the program in these tests, and what its journal may grow to.
const MEMORY_MIB_MAX: u64 = 400;

fn fault_length() -> Duration {
    Duration::from_secs(from_environment("MESHSCOPE_FAULT_SECONDS", 4))
}

fn configuration(web: SocketAddr, storage: &str, proxies: &Proxies) -> String {
    let targets: Vec<String> = proxies.keys().map(|address| format!("'{address}'")).collect();
    format!(
        "web: {{listen: '{web}'}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\n\
         storage: {{{storage}}}\nglobal: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}}\n\
         rule_files: [rules.yaml]\n\
         scrape_configs: [{{job_name: mesh, static_configs: [{{targets: [{}]}}]}}]\n",
        targets.join(", ")
    )
}

/// The program in a folder with these settings, and one recording rule.
async fn start(folder: &Path, storage: &str, proxies: &Proxies) -> Program {
    let web = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    std::fs::write(folder.join("meshscope.yaml"), configuration(web, storage, proxies)).expect("write");
    let rules = "groups: [{name: g, rules: [{record: scraped, expr: 'max(sequence)'}]}]\n";
    std::fs::write(folder.join("rules.yaml"), rules).expect("write");
    Program::start(folder, web).await
}

impl Program {
    async fn text(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.web)).await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.text("/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name}"))
    }

    async fn newest(&self, series: &str) -> f64 {
        let data = self.data(&format!("/api/v1/query?query=max({series})")).await;
        data["result"][0]["value"][1].as_str().map_or(0.0, |text| text.parse().expect("a number"))
    }

    /// Everything that must go on while PostgreSQL is in trouble, checked for as long as the fault lasts.
    async fn goes_on(&self, what: &str) {
        let (scraped, ruled) = (self.newest("sequence").await, self.newest("scraped").await);
        tokio::time::sleep(fault_length()).await;
        let more = (self.newest("sequence").await - scraped, self.newest("scraped").await - ruled);
        assert!(more.0 >= 4.0 && more.1 >= 2.0, "{what}: {more:?} more pages, seen by queries and by rules");
        assert_eq!(self.text("/-/healthy").await.0, 200, "{what}");
        assert_eq!(self.text("/-/ready").await.0, 200, "{what}: it serves from memory");
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        let memory_mib: u64 = memory.unwrap_or(0) / 1024;
        assert!(memory_mib < MEMORY_MIB_MAX, "{what}: {memory_mib} MiB");
        println!("{what}: {more:?} more pages meanwhile, {memory_mib} MiB");
    }

    async fn says_that_it_is_away(&self, what: &str) {
        let is_away = async || (self.metric("meshscope_database_available").await == 0.0).then_some(());
        eventually(&format!("{what}: it is away"), is_away).await;
        let (code, page) = self.text("/status").await;
        assert!(code == 200 && page.contains("PostgreSQL is away"), "{what}: {page}");
        let (_, answer) = self.text("/api/v1/query?query=count_over_time(up[4h])").await;
        assert!(answer.contains("success") && answer.contains("PostgreSQL history"), "{what}: {answer}");
    }

    async fn recovers(&self, what: &str) {
        let whole = async || (self.metric("meshscope_database_available").await == 1.0).then_some(());
        eventually(&format!("{what}: it is back"), whole).await;
        let (from, is_written) = (now_ms(), "meshscope_persist_written_items_total{part=\"journal\"}");
        let before = self.metric(is_written).await;
        let written = async || (self.metric(is_written).await > before).then_some(());
        eventually(&format!("{what}: the journal is written"), written).await;
        println!("{what}: written again after {} ms", now_ms() - from);
        assert_eq!(self.metric("meshscope_journal_dropped_samples_total").await, 0.0, "{what}");
        assert_eq!(self.metric("meshscope_persist_dropped_items_total{part=\"journal\"}").await, 0.0, "{what}");
    }

    /// Nothing is served any more, and what was is in the journal.
    async fn comes_to_rest(&self, proxies: &Proxies) {
        proxies.values().for_each(|proxy| proxy.lock().is_paused = true);
        let all_down =
            async || (self.data("/api/v1/query?query=sum(up)").await["result"][0]["value"][1] == "0").then_some(());
        eventually("all scrapes fail", all_down).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let empty = async || (self.metric("meshscope_journal_waiting_bytes").await < 4096.0).then_some(());
        eventually("the journal is written", empty).await;
    }
}

/// `kill -9`, and a start on what PostgreSQL has: every page is there, once.
async fn check_after_a_kill(mut program: Program, folder: &Path, storage: &str, proxies: &Proxies) {
    program.comes_to_rest(proxies).await;
    check_samples(&program, proxies, &[]).await;
    program.child.kill().expect("kill -9");
    program.child.wait().expect("wait");
    let again = start(folder, storage, proxies).await;
    let (stored, _) = check_samples(&again, proxies, &[]).await;
    let pages: usize = stored.values().map(|pages| pages.len()).sum();
    println!("{pages} pages, each there once");
    let log = std::fs::read_to_string(folder.join("log")).expect("read the log");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_down_hung_slow_or_cut_off_holds_nothing_up_and_loses_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seed = from_environment("MESHSCOPE_CRASH_SEED", now_ms() as u64);
    println!("MESHSCOPE_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let direct = postgres::database().await;
    let (chaos, cabled) = Chaos::before(&direct).await;
    let (proxies, folder) = (proxies(seed).await, new_folder());
    let url = |config: &meshscope::store::Config| {
        format!("database_url: '{}'", config.database_url.as_ref().expect("an address").reveal())
    };
    let program = start(&folder, &url(&cabled), &proxies).await;
    for (what, wire) in [("down", Wire::Down), ("hung", Wire::Stalled)] {
        chaos.set(wire);
        program.goes_on(what).await;
        program.says_that_it_is_away(what).await;
        chaos.set(Wire::Whole);
        program.recovers(what).await;
    }
    chaos.set(Wire::Slow(Duration::from_millis(700)));
    program.goes_on("slow").await;
    chaos.set(Wire::Whole);
    program.recovers("slow").await;
    let mut cuts = chaos.cuts();
    for _ in 0..6 {
        chaos.cut_after(random.below(8_000));
        // Writers pause for up to 30 s after failures in a row, so the bytes may take that long to come.
        tokio::time::timeout(Duration::from_secs(90), cuts.changed())
            .await
            .expect("something is sent")
            .expect("it lives");
    }
    program.recovers("cut").await;
    check_after_a_kill(program, &folder, &url(&direct), &proxies).await;
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        let place = folder.join("disk");
        std::fs::create_dir_all(&place).expect("make a folder");
        let options = format!("size={mebibytes}m,mode=1777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&place).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(place))
    }

    /// Fills what is left of it; removing the file makes room again.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).expect("make a file");
        let piece = vec![1; 1 << 16];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_nothing_up_and_loses_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = new_folder();
    let Some(disk) = SmallDisk::mount(&folder, 200) else {
        println!("cannot mount a tmpfs here (not root, or not allowed): the test of a full disk is not run");
        return;
    };
    let proxies = proxies(7).await;
    let storage = format!("path: '{}', shared_buffers: 16MB", disk.0.join("database").display());
    let program = start(&folder, &storage, &proxies).await;
    program.recovers("before").await;
    let ballast = disk.fill();
    program.goes_on("disk full").await;
    let fails = async || {
        let failures = program.metric("meshscope_persist_failures_total{part=\"journal\"}").await;
        let size = disk.fill();
        (failures > 0.0 && size == ballast).then_some(())
    };
    eventually("the journal cannot be written", fails).await;
    program.goes_on("disk still full").await;
    std::fs::remove_file(ballast).expect("make room");
    program.recovers("disk full").await;
    check_after_a_kill(program, &folder, &storage, &proxies).await;
    let log = std::fs::read_to_string(folder.join("log")).expect("read the log");
    assert!(log.contains("No space left") || log.contains("cannot write journal"), "{log}");
}
