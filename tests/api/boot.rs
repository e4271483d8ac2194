//! What is asked while the daemon comes up.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::bench::Bench;

/// A busy engine takes seconds to make the network; who has read the list may start servers.
#[tokio::test(start_paused = true)]
async fn the_list_waits_for_the_network() {
    let bench = Bench::new();
    bench.ask(Method::GET, "/api/servers", "").await;
    bench.world.network_settled.send_replace(false);
    let mut list = std::pin::pin!(bench.ask(Method::GET, "/api/servers", ""));
    let early = tokio::time::timeout(Duration::from_secs(3), &mut list).await;
    assert!(early.is_err(), "{early:?}");
    bench.world.network_settled.send_replace(true);
    let answer = tokio::time::timeout(Duration::from_millis(10), list).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

/// An engine that hangs keeps nobody from reading, and whoever asks again and again does not begin to wait anew.
#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_holds_the_list_up_once() {
    let bench = Bench::new();
    bench.ask(Method::GET, "/api/servers", "").await;
    bench.world.network_settled.send_replace(false);
    for _ in 0..4 {
        let list = bench.ask(Method::GET, "/api/servers", "");
        if tokio::time::timeout(Duration::from_secs(2), list).await.is_ok() {
            return;
        }
    }
    panic!("not answered in 8 s");
}
