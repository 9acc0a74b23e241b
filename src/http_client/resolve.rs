//! Looked-up names, kept for a short while: a job of many targets behind names asks the system's resolver once for each,
//! not once for each connection, and a name that is not there is not asked for at every scrape.
//!
//! Invariants: at most [`NAMES_MAX`] names are kept; connections that want one name at the same time wait for one look-up;
//! no address is given out that [`Reach`] refuses.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::reach::Reach;

/// How long addresses are used before they are looked up again.
const FOUND_FOR: Duration = Duration::from_secs(30);
/// How long a failure is believed.
const FAILED_FOR: Duration = Duration::from_secs(5);
/// How many names are kept.
const NAMES_MAX: usize = 4096;

/// Addresses without a port, or why there are none.
type Answer = Result<Vec<SocketAddr>, String>;
type LookUp = dyn Fn(String) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// A resolver that remembers. Clones share what they know.
#[derive(Clone)]
pub(super) struct CachingResolver {
    known: Arc<Mutex<HashMap<String, Entry>>>,
    look_up: Arc<LookUp>,
    reach: Reach,
}

#[derive(Clone)]
struct Entry {
    asked: Instant,
    answer: Arc<OnceCell<Answer>>,
}

impl Entry {
    fn is_fresh(&self) -> bool {
        let age = self.asked.elapsed();
        match self.answer.get() {
            Some(Err(_)) => age < FAILED_FOR,
            // One under way for long is not waited for by newcomers.
            Some(Ok(_)) | None => age < FOUND_FOR,
        }
    }
}

impl CachingResolver {
    /// One that asks the system, and gives out what may be connected to.
    pub fn system(reach: Reach) -> Self {
        Self::new(reach, |name| async move {
            match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(found) => Ok(found.collect()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn new<F>(reach: Reach, look_up: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self { known: Arc::default(), look_up: Arc::new(move |name| Box::pin(look_up(name))), reach }
    }

    fn entry(&self, name: &str) -> Entry {
        let mut known = self.known.lock();
        if let Some(entry) = known.get(name).filter(|entry| entry.is_fresh()) {
            return entry.clone();
        }
        if known.len() >= NAMES_MAX {
            known.retain(|_, entry| entry.is_fresh());
            if known.len() >= NAMES_MAX {
                known.clear();
            }
        }
        let entry = Entry { asked: Instant::now(), answer: Arc::default() };
        known.insert(name.to_owned(), entry.clone());
        entry
    }

    /// The addresses of a name that may be connected to, without a port.
    pub async fn addresses(&self, name: &str) -> Answer {
        let entry = self.entry(name);
        let found = entry.answer.get_or_init(|| (self.look_up)(name.to_owned())).await.clone()?;
        self.reach.filter(name, found, |address| address.ip())
    }

    /// Where may be connected to.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }
}

impl std::fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CachingResolver({} names)", self.known.lock().len())
    }
}

impl Resolve for CachingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.addresses(name.as_str()).await?;
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counting() -> (CachingResolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let resolver = CachingResolver::new(Reach::default(), move |name| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if name.starts_with("gone") {
                    return Err(format!("no {name}"));
                }
                Ok([SocketAddr::from(([10, 0, 0, 1], 0))].into())
            }
        });
        (resolver, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn asks_once_for_all_that_connect_within_half_a_minute() {
        let (resolver, asked) = counting();
        let (first, second) = tokio::join!(resolver.addresses("a"), resolver.addresses("a"));
        assert_eq!((first.unwrap().len(), second.unwrap().len(), asked.load(Ordering::Relaxed)), (1, 1, 1));
        tokio::time::sleep(Duration::from_secs(29)).await;
        resolver.addresses("a").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        resolver.addresses("a").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_there_is_asked_for_again_soon_but_not_each_time() {
        let (resolver, asked) = counting();
        for _ in 0..3 {
            assert_eq!(resolver.addresses("gone").await, Err("no gone".to_owned()));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::sleep(FAILED_FOR).await;
        assert!(resolver.addresses("gone").await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_comes_to_lead_elsewhere_is_judged_anew_each_time() {
        let asked = Arc::new(AtomicUsize::new(0));
        let reach = Reach::new("discovery", &crate::http_client::ReachConfig::default());
        let resolver = CachingResolver::new(reach, move |_| {
            let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            let address = if first { [203, 0, 113, 7] } else { [169, 254, 169, 254] };
            async move { Ok([SocketAddr::from((address, 0))].into()) }
        });
        let expect = vec![SocketAddr::from(([203, 0, 113, 7], 0))];
        assert_eq!(resolver.addresses("rebound.example").await, Ok(expect.clone()));
        // What was judged is what is connected to, until it is looked up again.
        assert_eq!(resolver.addresses("rebound.example").await, Ok(expect));
        tokio::time::sleep(FOUND_FOR).await;
        let said = resolver.addresses("rebound.example").await.unwrap_err();
        assert!(said.contains("`rebound.example` leads to 169.254.169.254"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_no_more_names_than_it_may() {
        let (resolver, _) = counting();
        for i in 0..=NAMES_MAX {
            drop(resolver.entry(&format!("name-{i}")));
        }
        assert!(resolver.known.lock().len() <= NAMES_MAX);
    }
}
