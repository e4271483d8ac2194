//! Order, names and failures of tasks.

use std::sync::mpsc;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Reports its drop.
struct Note(mpsc::Sender<&'static str>, &'static str);

impl Drop for Note {
    fn drop(&mut self) {
        // The test may have ended.
        let _ = self.0.send(self.1);
    }
}

async fn forever(_note: Note) {
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn a_task_is_named_while_it_runs() {
    let tasks = Tasks::new();
    let first = tasks.spawn("first", tokio::time::sleep(SECOND));
    let second = tasks.spawn(format!("number {}", 2), std::future::pending());
    assert_eq!(tasks.running(), ["first", "number 2"]);
    first.await.unwrap();
    assert_eq!(tasks.running(), ["number 2"]);
    assert!(!second.is_finished());
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    assert!(tasks.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_own_task_only() {
    let tasks = Tasks::new();
    let other = tasks.spawn("other", std::future::pending());
    let broken = tasks.spawn("broken", async { panic!("on purpose") });
    broken.await.unwrap();
    assert_eq!(tasks.running(), ["other"]);
    assert!(!other.is_finished());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_handle_does_not_end_the_task() {
    let tasks = Tasks::new();
    let (to, from) = mpsc::channel();
    drop(tasks.spawn("detached", async move {
        tokio::time::sleep(SECOND).await;
        to.send("done").unwrap();
    }));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(from.try_recv(), Ok("done"));
}

#[tokio::test(start_paused = true)]
async fn graceful_tasks_end_after_the_ordinary_ones() {
    let tasks = Tasks::new();
    let (to, from) = mpsc::channel();
    let graceful = Note(to.clone(), "graceful");
    tasks.spawn_graceful("graceful", |stop| async move {
        stop.cancelled().await;
        graceful.0.send("cancelled").unwrap();
        tokio::time::sleep(SECOND).await;
        drop(graceful);
    });
    tasks.spawn("ordinary", forever(Note(to, "ordinary")));
    tokio::task::yield_now().await;

    assert!(tasks.shutdown(10 * SECOND).await.is_empty());
    assert_eq!(from.try_iter().collect::<Vec<_>>(), ["ordinary", "cancelled", "graceful"]);
    assert!(tasks.running().is_empty());
}

/// Takes a while to be dropped.
struct Slow(mpsc::Sender<&'static str>);

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(50));
        self.0.send("dropped").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graceful_tasks_are_cancelled_after_the_ordinary_ones_are_dropped() {
    let tasks = Tasks::new();
    let (to, from) = mpsc::channel();
    let slow = Slow(to.clone());
    tasks.spawn("slow", async move {
        let _slow = slow;
        std::future::pending().await
    });
    tasks.spawn_graceful("graceful", |stop| async move {
        stop.cancelled().await;
        to.send("cancelled").unwrap();
    });
    assert!(tasks.shutdown(10 * SECOND).await.is_empty());
    assert_eq!(from.try_iter().collect::<Vec<_>>(), ["dropped", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_end_in_time_is_aborted_and_named() {
    let tasks = Tasks::new();
    let (to, from) = mpsc::channel();
    let note = Note(to, "dropped");
    tasks.spawn_graceful("stubborn", |_| forever(note));
    let began = tokio::time::Instant::now();
    assert_eq!(tasks.shutdown(5 * SECOND).await, ["stubborn"]);
    assert_eq!(began.elapsed(), 5 * SECOND);
    tokio::task::yield_now().await;
    assert_eq!(from.try_recv(), Ok("dropped"));
}

#[tokio::test(start_paused = true)]
async fn no_task_starts_after_the_shutdown() {
    for crash in [false, true] {
        let tasks = Tasks::new();
        let (to, from) = mpsc::channel();
        tasks.spawn("before", forever(Note(to.clone(), "before")));
        tokio::task::yield_now().await;
        if crash {
            tasks.abort_all();
        } else {
            tasks.shutdown(SECOND).await;
        }
        let late = tasks.spawn("late", forever(Note(to.clone(), "late")));
        let later = tasks.spawn_graceful("later", |_| forever(Note(to, "later")));
        late.await.unwrap();
        later.await.unwrap();
        assert_eq!(from.try_iter().collect::<Vec<_>>(), ["before", "late", "later"]);
        assert!(tasks.running().is_empty());
    }
}
