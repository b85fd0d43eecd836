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
    /// How many of the sound lane have turned out to be slow.
    slow: usize,
    /// How many each tenant has in each lane. What turns out to be slow stays in the lane that it began in.
    held: HashMap<(TenantId, Lane), usize>,
}

impl Taken {
    fn of(&self, lane: Lane) -> impl Iterator<Item = (TenantId, usize)> {
        let of_lane = self.held.iter().filter(move |((_, of), _)| *of == lane);
        of_lane.map(|((tenant, _), count)| (*tenant, *count))
    }

    fn give_back(&mut self, tenant: TenantId, lane: Lane, slow: bool) {
        self.slow = self.slow.saturating_sub(usize::from(slow));
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
        taken
            .of(lane)
            .map(|(tenant, count)| (tenant.to_string(), count))
            .collect()
    }

    /// Those that are free in a lane.
    pub(super) fn places(&self, lane: Lane) -> Places {
        let all = self.all.available_permits();
        let (failing, slow) = {
            let taken = self.taken();
            (
                taken.of(Lane::Failing).map(|(_, count)| count).sum::<usize>(),
                taken.slow,
            )
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

/// A place among the attempts that are under way: given up when the attempt's task ends, in whatever way it does.
pub(super) struct Place {
    pub(super) app: Arc<App>,
    permit: Option<OwnedSemaphorePermit>,
    tenant: TenantId,
    pub(super) lane: Lane,
    slow: bool,
}

impl Place {
    /// One in a lane. Only the loop takes places, so one that it found free is.
    pub(super) fn take(app: &Arc<App>, lane: Lane, tenant: TenantId) -> Option<Self> {
        let permit = Arc::clone(&app.lanes.all).try_acquire_owned().ok()?;
        *app.lanes.taken().held.entry((tenant, lane)).or_default() += 1;
        Some(Self {
            app: Arc::clone(app),
            permit: Some(permit),
            tenant,
            lane,
            slow: false,
        })
    }

    /// The attempt of the sound lane that has it lasts long.
    pub(super) fn is_slow(&mut self) {
        if !std::mem::replace(&mut self.slow, true) {
            self.app.lanes.taken().slow += 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app
            .lanes
            .taken()
            .give_back(self.tenant, self.lane, self.slow);
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
            taken.slow = slow;
            taken.held = HashMap::from([((TenantId(uuid::Uuid::nil()), Lane::Failing), failing)]);
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
        taken.slow += 1;
        drop(taken);
        let held = |lane| lanes.held(lane).get(&tenant.to_string()).copied();
        assert_eq!((held(Lane::Sound), held(Lane::Failing)), (Some(2), Some(1)));
        let mut taken = lanes.taken();
        taken.give_back(tenant, Lane::Failing, false);
        assert_eq!(taken.slow, 1);
        taken.give_back(tenant, Lane::Sound, true);
        assert_eq!(taken.slow, 0);
        drop(taken);
        assert_eq!((held(Lane::Sound), held(Lane::Failing)), (Some(1), None));
    }
}
