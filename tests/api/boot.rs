//! Requests during the start of the daemon.

use std::sync::Arc;
use std::time::Duration;

use alula::testing::TestNode;
use alula::testing::fake::{Call, Faults};
use http::{Method, StatusCode};

use crate::node::ApiNode;

/// An engine that takes this long to make a network.
struct SlowNetworks(Duration);

impl Faults for SlowNetworks {
    fn takes(&self, call: &Call) -> Option<Duration> {
        (call.name == "ensure_network").then_some(self.0)
    }
}

/// A node on an engine that takes so many seconds to make a network.
fn slow_networks(seconds: u64) -> ApiNode {
    ApiNode::build(TestNode::builder().engine_faults(Arc::new(SlowNetworks(Duration::from_secs(seconds)))))
}

/// A busy engine takes seconds to create the network, and a client that has read the list may start servers.
#[tokio::test(start_paused = true)]
async fn the_list_waits_for_the_network() {
    let node = slow_networks(4);
    let mut list = std::pin::pin!(node.ask(Method::GET, "/api/servers", ""));
    let early = tokio::time::timeout(Duration::from_millis(3_990), &mut list).await;
    assert!(early.is_err(), "{early:?}");
    let answer = tokio::time::timeout(Duration::from_millis(20), list).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

/// An engine that hangs delays readers once: repeated requests do not wait again.
#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_delays_the_list_once() {
    let node = slow_networks(60);
    for asked in 1..4 {
        let list = node.ask(Method::GET, "/api/servers", "");
        if tokio::time::timeout(Duration::from_secs(2), list).await.is_ok() {
            assert_eq!(asked, 3, "five seconds after the start");
            return;
        }
    }
    panic!("not answered in 6 s");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_engine_does_not_delay_the_list() {
    let node = slow_networks(60);
    node.engine.set_engine_up(false);
    let list = tokio::time::timeout(Duration::from_secs(1), node.ask(Method::GET, "/api/servers", "")).await;
    assert_eq!(list.unwrap().status, StatusCode::OK);
}
