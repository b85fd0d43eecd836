//! Who may make attempts: the places of this node, and who has them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    app::App,
    domain::TenantId,
    store::ops::deliveries::{Lane, Places},
};

/// Attempts that are under way at once, to one URL of one tenant; to one that is failing, a single one.
const MOST_PER_RECEIVER: usize = 2;

/// The places for attempts on this node. At the most half of them are for failing receivers, so that however many of them hang,
/// the rest is left for the others. What turns out to be slow in the rest takes away from that half, but never more than half
/// of it: so a crowd of receivers that have just begun to hang does not come on top of those that have for long. An eighth is
/// kept for failing ones, so that however many others there are, they come back.
#[derive(Debug)]
pub struct Lanes {
    all: Arc<Semaphore>,
    count: usize,
    taken: Mutex<Taken>,
}

/// Who has places.
#[derive(Debug, Default)]
struct Taken {
    failing: usize,
    slow: usize,
    /// How many each tenant has in each lane. What turns out to be slow stays in the lane that it began in.
    held: HashMap<(TenantId, Lane), usize>,
}

impl Taken {
    /// Where the places of a kind are counted.
    fn counter(&mut self, kind: Kind) -> Option<&mut usize> {
        match kind {
            Kind::Sound => None,
            Kind::Failing => Some(&mut self.failing),
            Kind::Slow => Some(&mut self.slow),
        }
    }

    fn change(&mut self, from: Kind, to: Kind) {
        if let Some(count) = self.counter(to) {
            *count += 1;
        }
        if let Some(count) = self.counter(from) {
            *count = count.saturating_sub(1);
        }
    }

    fn give_back(&mut self, tenant: TenantId, lane: Lane) {
        if let Entry::Occupied(mut held) = self.held.entry((tenant, lane)) {
            *held.get_mut() = held.get().saturating_sub(1);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Lanes {
    /// So many places, at least 4: with fewer, a tenant whose receivers hang could have them all.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let count = places.max(4);
        Self {
            all: Arc::new(Semaphore::new(count)),
            count,
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places each tenant has in a lane.
    pub(super) fn held(&self, lane: Lane) -> HashMap<String, usize> {
        let taken = self.taken();
        let of_lane = taken.held.iter().filter(|((_, of), _)| *of == lane);
        of_lane
            .map(|((tenant, _), count)| (tenant.to_string(), *count))
            .collect()
    }

    pub(super) fn places(&self, lane: Lane) -> Places {
        let all = self.all.available_permits();
        let (failing, slow) = {
            let taken = self.taken();
            (taken.failing, taken.slow)
        };
        match lane {
            Lane::Sound => {
                let kept = (self.count / 8).max(1);
                Places {
                    lane,
                    free: all.saturating_sub(kept.saturating_sub(failing)),
                    per_receiver: MOST_PER_RECEIVER,
                }
            }
            Lane::Failing => {
                let half = self.count / 2;
                let slow = slow.min(half / 2);
                Places {
                    lane,
                    free: all.min(half.saturating_sub(slow + failing)),
                    per_receiver: 1,
                }
            }
        }
    }
}

/// What a place is taken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An attempt at a receiver that is well, as far as one knows.
    Sound,
    /// One at a receiver whose newest attempt failed.
    Failing,
    /// One that began as sound and has lasted long.
    Slow,
}

/// A place among the attempts that are under way: given up when the attempt's task ends, in whatever way it does.
pub(super) struct Place {
    pub(super) app: Arc<App>,
    permit: Option<OwnedSemaphorePermit>,
    tenant: TenantId,
    lane: Lane,
    pub(super) kind: Kind,
}

impl Place {
    /// One in a lane. Only the loop takes places, so one that it found free is.
    pub(super) fn take(app: &Arc<App>, lane: Lane, tenant: TenantId) -> Option<Self> {
        let permit = Arc::clone(&app.lanes.all).try_acquire_owned().ok()?;
        let kind = match lane {
            Lane::Sound => Kind::Sound,
            Lane::Failing => Kind::Failing,
        };
        let mut taken = app.lanes.taken();
        taken.change(Kind::Sound, kind);
        *taken.held.entry((tenant, lane)).or_default() += 1;
        drop(taken);
        Some(Self {
            app: Arc::clone(app),
            permit: Some(permit),
            tenant,
            lane,
            kind,
        })
    }

    pub(super) fn is_slow(&mut self) {
        self.app.lanes.taken().change(self.kind, Kind::Slow);
        self.kind = Kind::Slow;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.app.lanes.taken();
        taken.change(self.kind, Kind::Sound);
        taken.give_back(self.tenant, self.lane);
        drop(taken);
        self.permit = None;
        self.app.signals.outbox.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_takes_from_the_half_of_the_failing_and_leaves_them_half_of_it() {
        let lanes = Lanes::new(64);
        let free = |failing: usize, slow: usize| {
            let mut taken = lanes.taken();
            (taken.failing, taken.slow) = (failing, slow);
            drop(taken);
            let lanes = [Lane::Sound, Lane::Failing].map(|lane| lanes.places(lane).free);
            (lanes[0], lanes[1])
        };
        assert_eq!(free(0, 0), (56, 32), "an eighth is kept for them");
        assert_eq!(free(5, 0), (61, 27));
        assert_eq!(free(32, 0), (64, 0));
        assert_eq!(free(10, 10), (64, 12));
        assert_eq!(free(0, 60), (56, 16));
        assert_eq!(free(16, 60), (64, 0));
        assert_eq!(free(32, 60), (64, 0), "they had their places before");
        let _taken = Arc::clone(&lanes.all).try_acquire_many_owned(60).unwrap();
        assert_eq!(free(0, 0), (0, 4));
        assert_eq!(free(6, 0), (2, 4));
    }

    #[test]
    fn what_is_slow_counts_for_its_tenant_where_it_began() {
        let (lanes, tenant) = (Lanes::new(64), TenantId(uuid::Uuid::from_u128(1)));
        let mut taken = lanes.taken();
        for lane in [Lane::Sound, Lane::Sound, Lane::Failing] {
            *taken.held.entry((tenant, lane)).or_default() += 1;
        }
        taken.change(Kind::Sound, Kind::Slow);
        drop(taken);
        let held = |lane| lanes.held(lane).get(&tenant.to_string()).copied();
        assert_eq!((held(Lane::Sound), held(Lane::Failing)), (Some(2), Some(1)));
        let mut taken = lanes.taken();
        taken.change(Kind::Slow, Kind::Sound);
        taken.give_back(tenant, Lane::Failing);
        assert_eq!((taken.slow, taken.failing), (0, 0));
        drop(taken);
        assert_eq!((held(Lane::Sound), held(Lane::Failing)), (Some(2), None));
    }
}
