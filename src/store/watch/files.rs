//! Watch of single files, also through symbolic links: certbot, Kubernetes and configuration management swap links.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc, watch};

use super::lookups;
use crate::store::Blocking;
use crate::store::fingerprint::FileFingerprint;

/// How long the files must be unchanged before they are reported: a program may write one in several steps.
const QUIET: Duration = Duration::from_secs(1);
/// How often the files are checked without an event: some file systems send none.
const SAFETY: Duration = Duration::from_secs(300);

/// Reports changes of these files until the receiver is dropped. The first report comes without one: the files may have changed since
/// they were read. The paths are absolute; other ones are watched once they are set.
pub async fn follow(mut paths: watch::Receiver<Vec<PathBuf>>, changed: mpsc::Sender<()>) {
    let mut known = None;
    loop {
        let current = paths.borrow_and_update().clone();
        let touched = Arc::new(Notify::new());
        let watcher = watcher(current.clone(), touched.clone()).await;
        // A change before the watch was established sends no event.
        if known == Some(fingerprints(&current).await) {
            // All of them are cancel-safe.
            tokio::select! {
                () = changed.closed() => return,
                () = touched.notified() => {}
                () = tokio::time::sleep(SAFETY) => {}
                set = paths.changed() => if set.is_err() { return },
            }
        }
        let found = settled(&current).await;
        drop(watcher);
        if known.as_ref() != Some(&found) && changed.send(()).await.is_err() {
            return;
        }
        known = Some(found);
    }
}

/// The fingerprints once they have not changed for a while.
async fn settled(paths: &[PathBuf]) -> Vec<Option<FileFingerprint>> {
    let mut found = fingerprints(paths).await;
    loop {
        tokio::time::sleep(QUIET).await;
        let later = fingerprints(paths).await;
        if later == found {
            return found;
        }
        found = later;
    }
}

async fn fingerprints(paths: &[PathBuf]) -> Vec<Option<FileFingerprint>> {
    let paths = paths.to_vec();
    let read = move || paths.iter().map(|path| FileFingerprint::of(path).ok()).collect();
    Blocking::Pool.run(read).await
}

/// Watches the folders of all entries that lead to the files. `None` if that is impossible: then the periodic check remains.
async fn watcher(paths: Vec<PathBuf>, touched: Arc<Notify>) -> Option<impl Watcher + Send> {
    let establish = move || {
        let entries: HashSet<PathBuf> = paths.iter().flat_map(|path| lookups::entries(path)).collect();
        let folders: HashSet<PathBuf> = entries.iter().filter_map(|entry| entry.parent()).map(Path::to_owned).collect();
        let concerns = move |event: &notify::Event| {
            !event.kind.is_access() && event.paths.iter().any(|path| entries.contains(path))
        };
        let handler = move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| event.need_rescan() || concerns(event)) {
                touched.notify_one();
            }
        };
        let mut watcher = notify::RecommendedWatcher::new(handler, notify::Config::default())?;
        for folder in folders {
            // A folder above that cannot be watched leaves the other ones.
            let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
        }
        Ok::<_, notify::Error>(watcher)
    };
    let watcher = Blocking::Pool.run(establish).await;
    watcher
        .inspect_err(|error| tracing::warn!(%error, "cannot watch the configuration; it is checked periodically"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_file_is_reported_when_it_was_written_replaced_or_linked_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("config.yml"), folder.path().join("other"));
        fs::write(&path, "a").unwrap();
        let (out, mut changes) = mpsc::channel(1);
        let (paths, followed) = watch::channel(vec![path.clone()]);
        let task = tokio::spawn(follow(followed, out));
        let first = tokio::time::timeout(TIMEOUT, changes.recv()).await;
        assert_eq!(first, Ok(Some(())), "it may have changed since it was read");
        let steps: [&dyn Fn(); 5] = [
            &|| fs::write(&path, "bb").unwrap(),
            &|| fs::write(&other, "ccc").and_then(|()| fs::rename(&other, &path)).unwrap(),
            &|| {
                fs::write(&other, "dddd").unwrap();
                fs::remove_file(&path).unwrap();
                symlink("other", &path).unwrap();
            },
            &|| fs::write(&other, "eeeee").unwrap(),
            &|| fs::remove_file(&other).unwrap(),
        ];
        for (number, step) in steps.iter().enumerate() {
            step();
            let changed = tokio::time::timeout(TIMEOUT, changes.recv()).await;
            assert_eq!(changed, Ok(Some(())), "step {number}");
        }
        // Other files in the folder are none of its business.
        fs::write(folder.path().join("log"), "x").unwrap();
        let changed = tokio::time::timeout(QUIET * 2, changes.recv()).await;
        assert!(changed.is_err());
        paths.send(vec![path.clone(), folder.path().join("log")]).unwrap();
        assert_eq!(tokio::time::timeout(TIMEOUT, changes.recv()).await, Ok(Some(())), "another file");
        fs::write(folder.path().join("log"), "yy").unwrap();
        assert_eq!(tokio::time::timeout(TIMEOUT, changes.recv()).await, Ok(Some(())), "a change of it");
        drop(changes);
        tokio::time::timeout(TIMEOUT, task).await.unwrap().unwrap();
    }
}
