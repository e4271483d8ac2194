//! The list of servers, page by page, and the limit of concurrent requests.

use std::time::Duration;

use alula::config::PanelConfig;
use alula::model::ServerId;
use alula::panel::client::HttpPanel;
use alula::panel::{Panel, PanelError};
use futures_util::future::join_all;
use serde_json::json;

use super::panel_sim::{Fault, PanelSim};
use super::{LIST, add, options, panel};

/// The pages that were requested since a mark, in ascending order.
fn pages_asked(sim: &PanelSim, since: usize) -> Vec<u32> {
    let requests = sim.matching(since, "GET", "/servers");
    let mut pages: Vec<u32> = requests.iter().map(|request| request.query["page"].parse().unwrap()).collect();
    pages.sort_unstable();
    pages
}

#[tokio::test]
async fn each_page_is_asked_for_once() {
    for (count, per_page, pages) in [
        (0, 50, vec![0]),
        (1, 50, vec![0]),
        (5, 2, vec![0, 2, 3]),
        (4, 2, vec![0, 2]),
        (7, 1, vec![0, 2, 3, 4, 5, 6, 7]),
    ] {
        let sim = PanelSim::start();
        let ids = add(&sim, count);
        let panel = HttpPanel::new(&PanelConfig { servers_per_page: per_page, ..options(&sim) }, false).unwrap();
        let listed: Vec<ServerId> = panel.list().await.unwrap().servers.iter().map(|listed| listed.id).collect();
        assert_eq!(listed, ids);
        assert_eq!(pages_asked(&sim, 0), pages);
        let requests = sim.matching(0, "GET", "/servers");
        assert!(requests.iter().all(|request| request.query["per_page"] == per_page.to_string()));

        // A second listing starts from the first page.
        let mark = sim.mark();
        panel.list().await.unwrap();
        assert_eq!(pages_asked(&sim, mark), pages);
    }
}

#[tokio::test]
async fn pages_are_read_side_by_side_within_a_bound() {
    let sim = PanelSim::start();
    add(&sim, 13);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 1, ..options(&sim) }, false).unwrap();
    let _fault = sim.fault(Fault::on(LIST).delay(Duration::from_millis(50)));
    assert_eq!(panel.list().await.unwrap().servers.len(), 13);
    assert_eq!(sim.most_at_once("GET"), 4);
}

#[tokio::test]
async fn pages_that_were_read_are_kept_when_another_fails() {
    let sim = PanelSim::start();
    let ids = add(&sim, 5);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 2, ..options(&sim) }, false).unwrap();
    let fault = sim.fault(Fault::on(LIST).status(503).skip(1).times(1));
    let error = panel.list().await.unwrap_err();
    assert!(matches!(error, PanelError::Failed { status: 503, .. }), "{error}");
    assert_eq!(pages_asked(&sim, 0), [0, 2, 3]);
    drop(fault);

    let mark = sim.mark();
    let listed: Vec<ServerId> = panel.list().await.unwrap().servers.iter().map(|listed| listed.id).collect();
    assert_eq!(listed, ids);
    let again = pages_asked(&sim, mark);
    assert!(again == [2] || again == [3], "{again:?}");
}

#[tokio::test]
async fn pages_are_kept_when_the_caller_stops_waiting() {
    let sim = PanelSim::start();
    let ids = add(&sim, 5);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 2, ..options(&sim) }, false).unwrap();
    let fault = sim.fault(Fault::on(LIST).held().skip(1));
    tokio::select! {
        _ = panel.list() => unreachable!("two pages are held back"),
        // The first page has arrived once the others are requested.
        () = sim.wait("all requests", |call_log| (call_log.requests.len() == 3).then_some(())) => {}
    }
    drop(fault);
    let mark = sim.mark();
    assert_eq!(panel.list().await.unwrap().servers.len(), ids.len());
    assert_eq!(pages_asked(&sim, mark), [2, 3], "the first page was kept");
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_incomplete() {
    let sim = PanelSim::start();
    let ids = add(&sim, 6);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 2, ..options(&sim) }, false).unwrap();
    // The other pages are held back until a server of the first page is removed, so the listing misses the third server.
    let fault = sim.fault(Fault::on(LIST).held().skip(1));
    let (listed, ()) = tokio::join!(panel.list(), async {
        sim.wait_for(0, "GET", "/servers", 1).await;
        sim.remove(&ids[0].to_string());
        drop(fault);
    });
    let error = listed.unwrap_err();
    assert!(error.to_string().contains("the list changed while it was read"), "{error}");
    assert!(!error.is_final());

    let mark = sim.mark();
    let listed: Vec<ServerId> = panel.list().await.unwrap().servers.iter().map(|listed| listed.id).collect();
    assert_eq!(listed, ids[1..]);
    assert_eq!(pages_asked(&sim, mark), [0, 2, 3], "nothing of the old list was kept");
}

#[tokio::test]
async fn a_broken_server_is_listed_with_its_error() {
    let sim = PanelSim::start();
    let ids = add(&sim, 3);
    sim.edit(&ids[1].to_string(), |server| server.process["startup"] = json!("invalid"));
    let listed = panel(&sim).list().await.unwrap().servers;
    assert_eq!(listed.iter().map(|listed| listed.id).collect::<Vec<_>>(), ids);
    assert_eq!(listed.iter().map(|listed| listed.server.is_ok()).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn entries_without_a_name_make_a_list_incomplete() {
    let sim = PanelSim::start();
    let ids = add(&sim, 3);
    assert_eq!(panel(&sim).list().await.unwrap().incomplete, None);
    let _fault = sim.fault(
        Fault::on(LIST).status(200).body(
            json!({
                "data": [{"uuid": "?", "settings": {"uuid": 5}}, {"uuid": ids[1]}, "nothing at all"],
                "meta": {"last_page": 1, "total": 3},
            })
            .to_string(),
        ),
    );
    let listed = panel(&sim).list().await.unwrap();
    assert_eq!(listed.servers.iter().map(|listed| listed.id).collect::<Vec<_>>(), [ids[1]]);
    assert!(listed.incomplete.unwrap().starts_with("2 of its entries"));
}

#[tokio::test]
async fn a_list_without_the_number_of_servers_is_incomplete() {
    let sim = PanelSim::start();
    add(&sim, 2);
    for body in [r#"{"data": []}"#, r#"{"data": [], "meta": {"current_page": 1}}"#] {
        let _fault = sim.fault(Fault::on(LIST).status(200).body(body));
        let listed = panel(&sim).list().await.unwrap();
        assert!(listed.servers.is_empty() && listed.incomplete.is_some(), "no server is parked because of {body}");
    }
}

#[tokio::test]
async fn a_list_that_never_fits_together_is_taken_as_incomplete_in_the_end() {
    let sim = PanelSim::start();
    let ids = add(&sim, 4);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 2, ..options(&sim) }, false).unwrap();
    // Every request gets the first page.
    let first = json!({
        "data": [{"uuid": ids[0]}, {"uuid": ids[1]}],
        "meta": {"last_page": 2, "total": 4},
    });
    let fault = sim.fault(Fault::on(LIST).status(200).body(first.to_string()));
    for _ in 0..2 {
        let error = panel.list().await.unwrap_err();
        assert!(error.to_string().contains("a server was listed twice"), "{error}");
    }
    let listed = panel.list().await.unwrap();
    assert_eq!(listed.servers.iter().map(|listed| listed.id).collect::<Vec<_>>(), ids[..2]);
    assert!(listed.incomplete.unwrap().contains("a server was listed twice"));
    drop(fault);
    let listed = panel.list().await.unwrap();
    assert_eq!((listed.servers.len(), listed.incomplete), (4, None), "it is whole again");
}

#[tokio::test]
async fn pages_that_count_differently_are_put_together_in_the_end() {
    let sim = PanelSim::start();
    let ids = add(&sim, 4);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 2, ..options(&sim) }, false).unwrap();
    let other = json!({"data": [{"uuid": ids[3]}], "meta": {"last_page": 2, "total": 3}});
    let second_page = || sim.fault(Fault::on(LIST).skip(1).status(200).body(other.to_string()));
    for _ in 0..2 {
        let _fault = second_page();
        panel.list().await.unwrap_err();
    }
    let _fault = second_page();
    let listed = panel.list().await.unwrap();
    assert_eq!(listed.servers.iter().map(|listed| listed.id).collect::<Vec<_>>(), [ids[0], ids[1], ids[3]]);
    assert!(listed.incomplete.is_some());
}

#[tokio::test]
async fn a_list_is_as_old_as_its_oldest_page() {
    let sim = PanelSim::start();
    add(&sim, 5);
    let panel = HttpPanel::new(&PanelConfig { servers_per_page: 2, ..options(&sim) }, false).unwrap();
    let fault = sim.fault(Fault::on(LIST).status(503).skip(1));
    let before = tokio::time::Instant::now();
    panel.list().await.unwrap_err();
    let after = tokio::time::Instant::now();
    drop(fault);
    let asked = panel.list().await.unwrap().asked;
    assert!(before <= asked && asked <= after, "the first page is from the first attempt");
}

#[tokio::test]
async fn a_bounded_number_of_questions_and_reports_are_under_way() {
    let sim = PanelSim::start();
    let ids = add(&sim, 1);
    let panel = panel(&sim);
    let _fault = sim.fault(Fault::on(&ids[0].to_string()).delay(Duration::from_millis(50)));
    let questions = join_all((0..24).map(|_| panel.server(ids[0])));
    let reports = join_all((0..12).map(|_| panel.report_install(ids[0], true, false)));
    let (questions, reports) = tokio::join!(questions, reports);
    assert!(questions.iter().all(Result::is_ok) && reports.iter().all(Result::is_ok));
    assert_eq!((sim.most_at_once("GET"), sim.most_at_once("POST")), (8, 4));
}
