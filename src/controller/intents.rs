//! Files of intent that people change: a watch, and a look at everything behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::ServerId;
use crate::reconcile::world::World;
use crate::store::watch::WatchEvent;

/// How often all files are looked at although the watch is well: two `stat` calls for each server.
const RESCAN: Duration = Duration::from_secs(300);

/// Reads what has changed, for as long as the watch lives.
pub async fn follow(world: Arc<World>, mut events: mpsc::Receiver<WatchEvent>) {
    let mut rescan = tokio::time::interval_at(tokio::time::Instant::now() + RESCAN, RESCAN);
    rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(WatchEvent::Changed(name)) => {
                    if let Ok(id) = name.parse() {
                        refresh(&world, id).await;
                    }
                }
                Some(WatchEvent::Rescan) => rescan_all(&world).await,
                None => return,
            },
            _ = rescan.tick() => rescan_all(&world).await,
        }
    }
}

async fn refresh(world: &World, id: ServerId) {
    match world.store.run(move |store| store.refresh(id)).await {
        Ok(true) => announce(world, id),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(server.id = %id, "a changed intent cannot be recorded: {error}");
            // The pass tries again, and again later if the disk still refuses.
            (world.wake)(id);
        }
    }
}

fn announce(world: &World, id: ServerId) {
    let Some(snapshot) = world.store.get(id) else { return };
    let now = world.clock.now();
    match &snapshot.problem {
        Some(problem) => world.store.event(id, now, problem.reason, &problem.message),
        None => {
            let message = format!("generation {} is in force", snapshot.record.generation);
            world.store.event(id, now, "SpecAccepted", &message);
        }
    }
}

async fn rescan_all(world: &World) {
    let folder = world.store.servers_folder().to_owned();
    let found = world
        .store
        .blocking()
        .run(move || {
            let items = std::fs::read_dir(&folder)?;
            Ok::<Vec<ServerId>, std::io::Error>(
                items.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok()).collect(),
            )
        })
        .await;
    let mut ids = world.store.ids();
    match found {
        Ok(found) => ids.extend(found),
        Err(error) => tracing::error!("the state folder cannot be listed: {error}"),
    }
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        refresh(world, id).await;
    }
}
