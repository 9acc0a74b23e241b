//! Series that are not stored as they are scraped: added up with others under fewer labels (`storage.drop_labels`), or
//! only counted for edges while memory is short.
//!
//! In: values of members. Out: rows of totals. A total is not the sum of its members' values: when one of them vanished,
//! that would fall, and readers would take it for a restart and count everything anew. It is the sum of what its members
//! *rose by* since they were first seen, each with its own restarts, so it only rises; it begins at 0 when meshscope
//! starts, which readers see as a restart without an increase.
//!
//! Invariants: one series counts once, however it is spelled; a page that fails leaves no trace; only what can be added
//! (counters, buckets, sums, counts) becomes a member.

use std::collections::HashMap;

use crate::model::Labels;
use crate::rollup::SlotId;

/// No total: the member only counts for edges.
const NONE: u32 = u32::MAX;

/// One scraped series.
#[derive(Debug)]
pub(super) struct Member {
    /// Its total, by index; `NONE` without one.
    total: u32,
    /// Where its increments go.
    pub slot: Option<SlotId>,
    /// The labels as scraped, hashed.
    fingerprint: u64,
    /// Its value on the last good page that had it; `None`: nobody knows since when it counts.
    last: Option<f64>,
    /// Its value on the page being read.
    value: f64,
    seen: u32,
    /// The last page had it.
    live: bool,
}

/// What members add up to.
#[derive(Debug)]
struct Total {
    /// Index of its series in the cache.
    series: u32,
    /// What it stands at after the last good page.
    value: f64,
    /// What it stands at on the page being read.
    now: f64,
    /// Row in the batch of that page, when it is stored.
    row: Option<u32>,
    /// Page of that row.
    page: u32,
}

/// What became of a member's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Added {
    /// The page had it before.
    Repeated,
    /// It only counts for edges.
    Counted,
    /// Its total, which the page has touched before: its row, if it has one, and what it is now.
    Total(Option<u32>, f64),
    /// Its total is new on this page: its series, and what it is now.
    New(u32, f64),
}

/// The members and totals of one target.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Member>,
    by_labels: HashMap<u64, u32, foldhash::quality::RandomState>,
    totals: Vec<Total>,
    by_series: HashMap<u32, u32, foldhash::quality::RandomState>,
}

impl Members {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Bytes of memory, about.
    pub fn size_bytes(&self) -> usize {
        let by_index = self.members.capacity() * size_of::<Member>() + self.totals.capacity() * size_of::<Total>();
        by_index
            + self.by_labels.capacity() * size_of::<(u64, u32)>()
            + self.by_series.capacity() * size_of::<(u32, u32)>()
    }

    /// The member with those scraped labels, made when it is new: one that adds to `series`, or only counts for edges.
    /// It counts from zero when `from_zero`, else from its first value.
    pub fn admit(
        &mut self,
        labels: &Labels,
        series: Option<u32>,
        from_zero: bool,
        slot: impl FnOnce() -> Option<SlotId>,
    ) -> u32 {
        let fingerprint = labels.fingerprint();
        let total = series.map_or(NONE, |series| self.total_of(series));
        if let Some(known) = self.by_labels.get(&fingerprint) {
            self.members[*known as usize].total = total;
            return *known;
        }
        let at = self.members.len() as u32;
        let last = from_zero.then_some(0.0);
        self.members.push(Member { total, slot: slot(), fingerprint, last, value: 0.0, seen: 0, live: false });
        self.by_labels.insert(fingerprint, at);
        at
    }

    fn total_of(&mut self, series: u32) -> u32 {
        let totals = &mut self.totals;
        *self.by_series.entry(series).or_insert_with(|| {
            totals.push(Total { series, value: 0.0, now: 0.0, row: None, page: 0 });
            totals.len() as u32 - 1
        })
    }

    /// A member.
    pub fn get(&self, at: u32) -> &Member {
        &self.members[at as usize]
    }

    /// The slot of what has those scraped labels and is to be stored itself from now on.
    pub fn take_slot(&mut self, labels: &Labels) -> Option<SlotId> {
        let at = self.by_labels.remove(&labels.fingerprint())?;
        self.members[at as usize].slot.take()
    }

    /// Whether the member only counts for edges.
    pub fn is_uncounted(&self, at: u32) -> bool {
        self.members[at as usize].total == NONE
    }

    /// Takes the value that page number `page` has for a member. What is no finite number adds nothing.
    pub fn add(&mut self, at: u32, value: f64, page: u32) -> Added {
        let member = &mut self.members[at as usize];
        if std::mem::replace(&mut member.seen, page) == page {
            return Added::Repeated;
        }
        member.value = value;
        if member.total == NONE {
            return Added::Counted;
        }
        let rise = match member.last {
            _ if !value.is_finite() => 0.0,
            None => 0.0,
            Some(last) if value >= last => value - last,
            Some(_) => value, // it restarted
        };
        let total = &mut self.totals[member.total as usize];
        if std::mem::replace(&mut total.page, page) == page {
            total.now += rise;
            return Added::Total(total.row, total.now);
        }
        (total.now, total.row) = (total.value + rise, None);
        Added::New(total.series, total.now)
    }

    /// The total of a member has that row in the batch of this page.
    pub fn set_row(&mut self, at: u32, row: usize) {
        let total = self.members[at as usize].total;
        self.totals[total as usize].row = u32::try_from(row).ok();
    }

    /// After a good page: its values count from now on. `vanished` is called with the slots of members it did not have.
    pub fn settle(&mut self, page: u32, mut vanished: impl FnMut(SlotId)) {
        for member in &mut self.members {
            if member.seen == page {
                member.live = true;
                if member.value.is_finite() {
                    member.last = Some(member.value);
                }
            } else if std::mem::take(&mut member.live) {
                member.slot.into_iter().for_each(&mut vanished);
            }
        }
        for total in self.totals.iter_mut().filter(|total| total.page == page) {
            total.value = total.now;
        }
    }

    /// After a failed page: `vanished` is called with the slots of members that were there before.
    pub fn end_all(&mut self, mut vanished: impl FnMut(SlotId)) {
        for member in &mut self.members {
            if std::mem::take(&mut member.live) {
                member.slot.into_iter().for_each(&mut vanished);
            }
        }
    }

    /// Forgets members that neither the page just read nor the one before had, and totals whose series is gone: `moved`
    /// says where each series is now. Gives where each member is now, and the slots to release.
    pub fn shrink(&mut self, page: Option<u32>, moved: &[u32]) -> (Vec<u32>, Vec<SlotId>) {
        let mut released = Vec::new();
        let mut kept_totals = vec![NONE; self.totals.len()];
        let mut totals = Vec::new();
        for (old, mut total) in std::mem::take(&mut self.totals).into_iter().enumerate() {
            let series = moved[total.series as usize];
            if series != NONE {
                total.series = series;
                kept_totals[old] = totals.len() as u32;
                totals.push(total);
            }
        }
        let mut kept = vec![NONE; self.members.len()];
        let mut members = Vec::new();
        for (old, mut member) in std::mem::take(&mut self.members).into_iter().enumerate() {
            let total = if member.total == NONE { NONE } else { kept_totals[member.total as usize] };
            let has_lost_total = member.total != NONE && total == NONE;
            if has_lost_total || !(member.live || page == Some(member.seen)) {
                released.extend(member.slot);
                continue;
            }
            member.total = total;
            kept[old] = members.len() as u32;
            members.push(member);
        }
        (self.totals, self.members) = (totals, members);
        self.by_labels = self.members.iter().enumerate().map(|(at, m)| (m.fingerprint, at as u32)).collect();
        self.by_series = self.totals.iter().enumerate().map(|(at, t)| (t.series, at as u32)).collect();
        (kept, released)
    }

    /// Everything goes: gives the slots to release.
    pub fn clear(&mut self) -> Vec<SlotId> {
        std::mem::take(self).members.into_iter().filter_map(|member| member.slot).collect()
    }
}
