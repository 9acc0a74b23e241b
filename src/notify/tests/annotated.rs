//! What is added to alerts when they are told: fresh at each delivery, and no reason for one.

use super::*;

/// Adds how often it was asked, as context does that changes all the time.
fn changing() -> (Annotator, Arc<std::sync::atomic::AtomicU64>) {
    let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let annotator: Annotator = Arc::new(move |mut alerts, _| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        for (alert, _) in &mut alerts {
            alert.annotations = alert.annotations.with("meshscope_edges", &format!("state {n}"));
        }
        Box::pin(async move { alerts })
    });
    (annotator, asked)
}

#[tokio::test]
async fn a_repeat_carries_fresh_context_and_context_alone_tells_nobody() {
    let (url, got) = receiver(vec![]).await;
    let plan = plan(&format!(
        "
route: {{receiver: a, group_by: [alertname], group_wait: 0s, group_interval: 300ms, repeat_interval: 1h}}
receivers: [{{name: a, webhook_configs: [{{url: '{url}'}}]}}]
"
    ));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (annotator, asked) = changing();
    let mut running = start_annotated(plan, vec![], Some(annotator));
    tokio::spawn(async move {
        while let Some(record) = running.outbox.recv().await {
            if let Record::Due(_, written) = record {
                let _ = written.send(());
            }
        }
    });
    let told = |number: usize| {
        let got = Arc::clone(&got);
        async move {
            for _ in 0..200 {
                if got.lock().len() >= number {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            got.lock().clone()
        }
    };
    let x = |i: &str| alert(&[("alertname", "X"), ("i", i)], at(0));
    running.alerts.send(vec![x("a")]).await.expect("runs");
    assert_eq!(told(1).await.len(), 1);
    // The rules send it again and again: several group intervals, nothing new but the context.
    for _ in 0..3 {
        running.alerts.send(vec![x("a")]).await.expect("runs");
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    assert_eq!(got.lock().len(), 1, "context alone is no news");
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1, "it is asked for at deliveries only");
    running.alerts.send(vec![x("a"), x("b")]).await.expect("runs");
    let bodies = told(2).await;
    let payload = |body: &String| serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    let (first, second) = (payload(&bodies[0]), payload(&bodies[1]));
    assert_eq!(first["alerts"][0]["annotations"]["meshscope_edges"], "state 0");
    assert_eq!(second["alerts"][0]["annotations"]["meshscope_edges"], "state 1");
    assert_eq!(second["commonAnnotations"]["meshscope_edges"], "state 1");
    assert_eq!(first["alerts"][0]["fingerprint"], second["alerts"][0]["fingerprint"], "no part of its identity");
    running.shutdown.cancel();
    running.task.await.expect("ends");
}
