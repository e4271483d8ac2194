//! Files of intent that people change: a watch, and a look at everything behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::model::ServerId;
use crate::reconcile::world::World;
use crate::store::watch::WatchEvent;

/// How often all files are looked at although the watch is well: two `stat` calls for each server whose files are as they were
/// when this daemon last read them.
const RESCAN: Duration = Duration::from_secs(300);

/// Looks that may be under way at once. One that hangs (a file of intent is a link into a network file system, say) keeps its
/// place and one of the threads for blocking work; it takes many of them to keep the others from being looked at.
const LOOKS: usize = 16;

/// Of these, how many a look at everything begins before it waits for one to end: each thread more costs memory.
const RESCAN_LOOKS: usize = 2;

/// So long it waits. One that takes longer hangs.
const RESCAN_PATIENCE: Duration = Duration::from_millis(200);

/// Reads what has changed, for as long as the watch lives.
pub async fn follow(world: Arc<World>, mut events: mpsc::Receiver<WatchEvent>) {
    let looks = Looks::new(world);
    let mut rescan = tokio::time::interval_at(tokio::time::Instant::now() + RESCAN, RESCAN);
    rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(WatchEvent::Changed(name)) => {
                    if let Ok(id) = name.parse() {
                        looks.begin(id);
                    }
                }
                Some(WatchEvent::Rescan) => looks.begin_all(),
                None => return,
            },
            _ = rescan.tick() => looks.begin_all(),
        }
    }
}

/// Looks at servers' files: each in a task of its own, and no two at the same server's.
#[derive(Clone)]
struct Looks {
    world: Arc<World>,
    places: Arc<Semaphore>,
    /// Taken by whoever looks at everything, and by the next one who is to.
    rescans: Arc<Semaphore>,
    /// Taken by whoever looks at everything.
    turn: Arc<Semaphore>,
    /// Servers that have a task, and whether their files have changed since it last looked.
    changed: Arc<Mutex<BTreeMap<ServerId, bool>>>,
}

impl Looks {
    fn new(world: Arc<World>) -> Self {
        Self {
            world,
            places: Arc::new(Semaphore::new(LOOKS)),
            rescans: Arc::new(Semaphore::new(2)),
            turn: Arc::new(Semaphore::new(1)),
            changed: Arc::default(),
        }
    }

    fn begin(&self, id: ServerId) {
        self.begin_with(id, None);
    }

    /// The task keeps `place` to its end.
    fn begin_with(&self, id: ServerId, place: Option<OwnedSemaphorePermit>) {
        if self.changed().insert(id, true).is_some() {
            return;
        }
        let looks = self.clone();
        self.world.tasks.spawn(format!("look at the files of {id}"), async move {
            let _of_the_rescan = place;
            // Fails only when closed, which never happens.
            let _place = looks.places.acquire().await;
            while looks.is_due(id) {
                let look = std::panic::AssertUnwindSafe(refresh(&looks.world, id)).catch_unwind();
                if look.await.is_err() {
                    // The next change is looked at all the same.
                    tracing::error!(server.id = %id, "a look at this server's files panicked, which is a bug: please report it");
                }
            }
        });
    }

    /// Whether there is something to look at. If not, whoever asked has to end.
    fn is_due(&self, id: ServerId) -> bool {
        let mut changed = self.changed();
        let due = changed.get_mut(&id).is_some_and(std::mem::take);
        if !due {
            changed.remove(&id);
        }
        due
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<ServerId, bool>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at every server's files, one after the other as far as none hangs.
    fn begin_all(&self) {
        // Somebody who has not begun yet will see what is to be seen.
        let Ok(place) = self.rescans.clone().try_acquire_owned() else { return };
        let looks = self.clone();
        self.world.tasks.spawn("look at all files", async move {
            let _place = place;
            // Fails only when closed, which never happens.
            let _turn = looks.turn.acquire().await;
            looks.all().await;
        });
    }

    async fn all(&self) {
        let folder = self.world.store.servers_folder().to_owned();
        let found = self
            .world
            .store
            .blocking()
            .run(move || {
                let items = std::fs::read_dir(&folder)?;
                Ok::<Vec<ServerId>, std::io::Error>(
                    items.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok()).collect(),
                )
            })
            .await;
        let mut ids = self.world.store.ids();
        match found {
            Ok(found) => ids.extend(found),
            Err(error) => tracing::error!("the state folder cannot be listed: {error}"),
        }
        ids.sort_unstable();
        ids.dedup();
        let places = Arc::new(Semaphore::new(RESCAN_LOOKS));
        for id in ids {
            let place = tokio::time::timeout(RESCAN_PATIENCE, places.clone().acquire_owned()).await;
            self.begin_with(id, place.ok().and_then(Result::ok));
        }
    }
}

async fn refresh(world: &World, id: ServerId) {
    if let Err(error) = world.refresh(id).await {
        tracing::error!(server.id = %id, "a changed intent cannot be recorded: {error}");
        // The pass tries again, and again later if the disk still refuses.
        (world.wake)(id);
    }
}

#[cfg(test)]
mod tests;
