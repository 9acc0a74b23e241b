//! Hours of flapping alerts, failing receivers and restarts in no time: what must hold whatever happens.
//!
//! Every run prints its seed; `MESHSCOPE_SEED` repeats one.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;

const RECEIVERS: usize = 3;
const INTERVAL_S: u64 = 60;

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn plan_of_the_world() -> Arc<Plan> {
    let receivers: Vec<String> = (0..RECEIVERS)
        .map(|n| format!("{{name: r{n}, webhook_configs: [{{url: 'http://127.0.0.1:1/{n}'}}]}}"))
        .collect();
    let routes: Vec<String> =
        (0..RECEIVERS).map(|n| format!("{{receiver: r{n}, matchers: [team{n}=yes], continue: true}}")).collect();
    plan(&format!(
        "route: {{receiver: r0, group_by: [alertname], group_wait: 10s, group_interval: {INTERVAL_S}s, repeat_interval: 1h, routes: [{}]}}\nreceivers: [{}]\n",
        routes.join(", "),
        receivers.join(", ")
    ))
}

/// What one receiver and group were told.
#[derive(Default)]
struct Heard {
    last_at: Option<u64>,
    firing: HashSet<u64>,
    last: Option<(Vec<(u64, bool)>, u64)>,
}

struct World {
    dice: Dice,
    core: Core,
    /// What survives a crash: the log as the outbox has it.
    log: HashMap<(String, String, usize), LogEntry>,
    alerts: Vec<(Labels, Option<u64>, Option<u64>)>,
    heard: BTreeMap<(String, String), Heard>,
    /// Receivers that fail until a second.
    down_until: [u64; RECEIVERS],
    deliveries: usize,
    crashed_at: u64,
    /// By fingerprint and receiver: since when it fires without the receiver knowing.
    waiting: HashMap<(u64, usize), u64>,
    /// How far it has come.
    now: u64,
    /// No alert begins to fire any more.
    is_over: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let alerts = (0..40)
            .map(|n| {
                let mut pairs = vec![("alertname".to_owned(), format!("A{}", n % 8)), ("i".to_owned(), n.to_string())];
                let first = dice.below(RECEIVERS as u64);
                for team in 0..RECEIVERS as u64 {
                    if team == first || dice.below(3) == 0 {
                        pairs.push((format!("team{team}"), "yes".to_owned()));
                    }
                }
                (pairs.into_iter().collect(), None, None)
            })
            .collect();
        Self {
            dice,
            core: core_of(plan_of_the_world(), vec![]),
            log: HashMap::new(),
            alerts,
            heard: BTreeMap::new(),
            down_until: [0; RECEIVERS],
            deliveries: 0,
            crashed_at: 0,
            waiting: HashMap::new(),
            now: 0,
            is_over: false,
        }
    }

    /// The rules' part: alerts flap, and those that fire or ended within a quarter of an hour are sent each minute.
    fn evaluate(&mut self, now: u64) {
        let mut sent = Vec::new();
        for (labels, since, ended) in &mut self.alerts {
            match (*since, self.dice.below(60)) {
                (None, 0) if !self.is_over => (*since, *ended) = (Some(now), None),
                (Some(_), 0) => *ended = since.take().map(|_| now),
                _ => {}
            }
            let fingerprint = labels.fingerprint();
            let receivers = (0..RECEIVERS).filter(|n| labels.get(&format!("team{n}")).is_some());
            for receiver in receivers {
                match since {
                    Some(_) => drop(self.waiting.entry((fingerprint, receiver)).or_insert(now)),
                    None => drop(self.waiting.remove(&(fingerprint, receiver))),
                }
            }
            let one = |from: u64| Alert { labels: labels.clone(), valid_until: at(now + 240), ..alert(&[], at(from)) };
            match (*since, *ended) {
                (Some(from), _) => sent.push(one(from)),
                (None, Some(ended)) if now < ended + 900 => {
                    sent.push(resolved(one(ended.saturating_sub(30)), at(ended)))
                }
                _ => {}
            }
        }
        self.core.accept(sent, at(now));
    }

    fn deliver(&mut self, now: u64) {
        for notification in self.core.take_due(at(now)) {
            let number: usize = notification.receiver[1..].parse().expect("r0, r1, …");
            let fails = self.down_until[number] > now;
            if !fails {
                self.hear(&notification, number, now);
                let entry = notification.log.clone();
                let key = (entry.group_key.clone(), entry.receiver.clone(), entry.integration);
                // Every fiftieth acknowledgement is lost with the process that should have written it. The row of the
                // delivery is still open, so the next process makes it again.
                if self.dice.below(50) == 0 {
                    self.crash(now);
                    self.core.resend_begins(&entry, at(now + INTERVAL_S));
                    self.hear(&notification, number, now);
                    self.core.resend_ended(entry.clone(), true);
                    self.log.insert(key, entry);
                    return;
                }
                self.log.insert(key, entry);
            }
            self.core.finished(&notification, !fails);
        }
        for entry in self.core.take_cleared() {
            self.log.insert((entry.group_key.clone(), entry.receiver.clone(), entry.integration), entry);
        }
    }

    fn hear(&mut self, notification: &Notification, number: usize, now: u64) {
        self.deliveries += 1;
        let heard = self.heard.entry((notification.receiver.clone(), notification.group_key.clone())).or_default();
        let told: Vec<(u64, bool)> =
            notification.alerts.iter().map(|(a, fires)| (a.labels.fingerprint(), *fires)).collect();
        let after_crash = self.crashed_at > heard.last_at.unwrap_or(0) || self.crashed_at + 2 * INTERVAL_S > now;
        if let Some(last_at) = heard.last_at {
            // A group that emptied begins anew with its wait.
            let begins = heard.firing.is_empty();
            assert!(after_crash || begins || now >= last_at + INTERVAL_S, "told at {last_at} and {now}");
        }
        if let Some((last, at)) = &heard.last {
            assert!(
                after_crash || *last != told || now >= at + 3600 || heard.firing.is_empty(),
                "a duplicate at {now}"
            );
        }
        for (fingerprint, fires) in &told {
            assert!(
                *fires || after_crash || heard.firing.contains(fingerprint) || heard.last.is_some(),
                "resolved before firing"
            );
            if *fires {
                self.waiting.remove(&(*fingerprint, number));
            }
        }
        heard.firing = told.iter().filter(|(_, fires)| *fires).map(|(fingerprint, _)| *fingerprint).collect();
        (heard.last_at, heard.last) = (Some(now), Some((told, now)));
    }

    fn crash(&mut self, now: u64) {
        self.crashed_at = now;
        self.core = core_of(plan_of_the_world(), self.log.values().cloned().collect());
    }

    fn run(&mut self, until: u64, is_calm: bool) {
        for now in self.now + 1..until {
            self.now = now;
            if !is_calm {
                if self.dice.below(900) == 0 {
                    let receiver = self.dice.below(RECEIVERS as u64) as usize;
                    self.down_until[receiver] = now + self.dice.below(600);
                }
                if self.dice.below(3000) == 0 {
                    self.crash(now);
                }
            }
            if now % 15 == 0 {
                self.evaluate(now);
            }
            // Seconds in which nothing is due need no look.
            if self.core.next_due().is_some_and(|due| due <= at(now)) || now % 15 == 0 {
                self.deliver(now);
            }
            if now % 15 != 0 {
                continue;
            }
            for ((fingerprint, receiver), since) in &self.waiting {
                // What fires is told within the wait and an interval of the moment from which its receiver answers.
                let possible = (*since).max(self.down_until[*receiver]).max(self.crashed_at);
                let name = format!("r{receiver}");
                // One that fires anew before its end was told is known to fire all along.
                let knows = || {
                    let mut groups = self.heard.iter().filter(|((receiver, _), _)| *receiver == name);
                    groups.any(|(_, heard)| heard.firing.contains(fingerprint))
                };
                assert!(
                    now <= possible + 4 * INTERVAL_S || knows(),
                    "{fingerprint:x} fires since {since}, {name} does not know at {now}"
                );
            }
        }
    }
}

impl World {
    /// Receivers work again and every alert ends: everybody who was told that one fires is told that it is resolved, and
    /// nothing is left over.
    fn all_ends(&mut self) {
        let now = self.now.max(self.down_until.into_iter().max().unwrap_or(0));
        for (_, since, ended) in &mut self.alerts {
            *ended = since.take().map(|_| now).or(*ended);
        }
        self.is_over = true;
        self.run(now + 3 * 3600, true);
        for ((receiver, group), heard) in &self.heard {
            assert!(heard.firing.is_empty(), "{receiver} still believes that {:?} of {group} fire", heard.firing);
        }
        assert_eq!((self.core.groups().count(), self.waiting.len()), (0, 0), "nothing is left over");
    }
}

#[test]
fn hours_of_flapping_failures_and_restarts_lose_nothing() {
    let given = std::env::var("MESHSCOPE_SEED").ok().and_then(|text| text.parse().ok());
    let chosen =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seeds = given.map_or_else(|| vec![1, 2, 3, chosen], |seed| vec![seed]);
    for seed in seeds {
        println!("MESHSCOPE_SEED={seed}");
        let mut world = World::new(seed);
        world.run(6 * 3600, false);
        assert!(world.deliveries > 100, "{} deliveries", world.deliveries);
        world.all_ends();
    }
}

#[test]
fn ten_thousand_alerts_through_a_thousand_routes_are_told_once() {
    let routes: Vec<String> = (0..1000).map(|n| format!("{{matchers: ['service=\"s{n}\"'], receiver: ops}}")).collect();
    let text = format!(
        "route: {{receiver: ops, group_by: [alertname, service], group_wait: 10s, group_interval: 1m, routes: [{}]}}\nreceivers: [{{name: ops, webhook_configs: [{{url: 'http://127.0.0.1:1/'}}]}}]\ninhibit_rules: [{{source_matchers: [severity=page], target_matchers: [severity=warn], equal: [service]}}]\n",
        routes.join(", ")
    );
    let mut core = core_of(plan(&text), vec![]);
    let alerts = (0..10_000_usize)
        .map(|n| {
            let severity = if n % 10 == 0 { "page" } else { "warn" };
            let (service, i) = (format!("s{}", n % 1000), n.to_string());
            alert(&[("alertname", "X"), ("service", &service), ("i", &i), ("severity", severity)], at(0))
        })
        .collect();
    core.accept(alerts, at(0));
    let told = core.take_due(at(10));
    for notification in &told {
        core.finished(notification, true);
    }
    // Services whose number ends in 0 have pages alone; of the others everything is a warning that nothing mutes.
    let count: usize = told.iter().map(|notification| notification.alerts.len()).sum();
    assert_eq!((told.len(), count), (1000, 10_000));
    assert_eq!(core.take_due(at(70)).len(), 0, "once");
    assert_eq!(core.alert_statuses(at(70)).len(), 10_000);
}
