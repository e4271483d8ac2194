//! The panel's client against the project's panel simulator, and the simulator itself.

#[path = "panel_client/backups.rs"]
mod backups;
#[path = "panel_client/listing.rs"]
mod listing;
#[path = "support/panel_sim.rs"]
mod panel_sim;
#[path = "panel_client/simulator.rs"]
mod simulator;
#[path = "panel_client/states.rs"]
mod states;

use std::time::{Duration, Instant};

use alula::config::{PanelConfig, Secret};
use alula::model::{PowerState, ServerId};
use alula::panel::client::{HttpPanel, OptionsError, WINGS_VERSION};
use alula::panel::{Panel, PanelError};
use http::{HeaderName, HeaderValue};
use panel_sim::{Fault, PanelSim, SimServer};
use serde_json::json;
use serde_json::value::RawValue;

const LIST: &str = "^/servers$";

fn options(sim: &PanelSim) -> PanelConfig {
    PanelConfig {
        remote: sim.url().into(),
        url: sim.url().into(),
        token_id: sim.token_id().into(),
        token: Secret::new(sim.token()),
        timeout: Duration::from_secs(10),
        servers_per_page: 50,
        custom_headers: Vec::new(),
    }
}

fn panel(sim: &PanelSim) -> HttpPanel {
    HttpPanel::new(&options(sim), false).unwrap()
}

fn id(number: usize) -> ServerId {
    format!("550e8400-e29b-41d4-a716-{number:012}").parse().unwrap()
}

/// Adds so many servers and returns their ids.
fn add(sim: &PanelSim, count: usize) -> Vec<ServerId> {
    let ids: Vec<ServerId> = (1..=count).map(id).collect();
    for id in &ids {
        sim.add(SimServer::new(&id.to_string(), "game:1", "installer:1"));
    }
    ids
}

// ------------------------------------------------------------------ what is sent

#[tokio::test]
async fn requests_are_like_those_of_wings() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let config = PanelConfig {
        url: format!("{}/", sim.url()),
        custom_headers: vec![
            (HeaderName::from_static("x-access"), HeaderValue::from_static("letmein")),
            (HeaderName::from_static("authorization"), HeaderValue::from_static("no")),
            (HeaderName::from_static("user-agent"), HeaderValue::from_static("no")),
            (HeaderName::from_static("accept"), HeaderValue::from_static("no")),
            (HeaderName::from_static("content-type"), HeaderValue::from_static("no")),
        ],
        ..options(&sim)
    };
    let panel = HttpPanel::new(&config, false).unwrap();

    panel.list().await.unwrap();
    panel.reset().await.unwrap();
    panel.server(id).await.unwrap();
    panel.script(id).await.unwrap();
    panel.report_install(id, true, false).await.unwrap();
    panel.report_state(id, PowerState::Offline, PowerState::Starting).await.unwrap();

    let requests = sim.with(|call_log| call_log.requests.clone());
    let seen: Vec<_> = requests
        .iter()
        .map(|request| {
            let body = String::from_utf8(request.body.to_vec()).unwrap();
            (format!("{} {}", request.method, request.path), body)
        })
        .collect();
    let expected = [
        ("GET /servers".to_owned(), ""),
        ("POST /servers/reset".to_owned(), "null"),
        (format!("GET /servers/{id}"), ""),
        (format!("GET /servers/{id}/install"), ""),
        (format!("POST /servers/{id}/install"), r#"{"successful":true,"reinstall":false}"#),
        (
            format!("POST /servers/{id}/container/status"),
            r#"{"data":{"previous_state":"offline","new_state":"starting"}}"#,
        ),
    ];
    assert_eq!(seen, expected.map(|(call, body)| (call, body.to_owned())));
    assert_eq!(json!(requests[0].query), json!({"page": "0", "per_page": "50"}));

    let agent = format!("Pelican Wings/v{WINGS_VERSION} (id:{})", sim.token_id());
    let bearer = format!("Bearer {}.{}", sim.token_id(), sim.token());
    for request in &requests {
        for (name, value) in [
            ("authorization", bearer.as_str()),
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("user-agent", &agent),
            ("x-access", "letmein"),
        ] {
            let found: Vec<_> = request.headers.get_all(name).iter().collect();
            assert_eq!(found, [value], "{name} of {} {}", request.method, request.path);
        }
    }
}

#[tokio::test]
async fn answers_become_the_model() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    sim.edit(&id.to_string(), |server| {
        server.settings["suspended"] = json!(true);
        server.settings["build"]["memory_limit"] = json!(777);
        server.process["stop"] = json!({"type": "signal", "value": "C"});
        server.script = json!({"container_image": "i", "entrypoint": "ash", "script": "a\r\nb"});
    });
    let panel = panel(&sim);
    let server = panel.server(id).await.unwrap();
    assert!(server.suspended);
    assert_eq!(server.settings.build.memory_limit, 777);
    assert_eq!(server.process.stop.kind, "signal");
    assert_eq!(panel.list().await.unwrap().servers[0].server.as_ref().unwrap(), &server);
    let script = panel.script(id).await.unwrap();
    assert_eq!((&*script.image, &*script.entrypoint, &*script.text), ("i", "ash", "a\r\nb"));
}

#[test]
fn options_that_cannot_work_are_rejected() {
    let sim = PanelSim::start();
    for url in ["", "panel.example.com", "ftp://panel.example.com", "http://", "https://panel.example.com/?a=b"] {
        let rejected = HttpPanel::new(&PanelConfig { url: url.into(), ..options(&sim) }, false);
        assert!(matches!(rejected, Err(OptionsError::Url { .. })), "{url}");
    }
    let rejected =
        HttpPanel::new(&PanelConfig { token: Secret::new("line\nbreak"), ..options(&sim) }, false).unwrap_err();
    assert!(!rejected.to_string().contains("break"), "{rejected}");
}

#[test]
fn the_token_is_never_printed() {
    let sim = PanelSim::start();
    let printed = format!("{:?} {:?}", options(&sim), panel(&sim));
    assert!(!printed.contains(sim.token()), "{printed}");
}

// ------------------------------------------------------------------ classes of errors

#[tokio::test]
async fn a_rejection_is_final_and_has_its_cause() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    let error = panel.server(id(9)).await.unwrap_err();
    assert!(error.is_final() && error.is_unknown(), "{error}");
    assert_eq!(
        error.to_string(),
        "GET /api/remote/servers/550e8400-e29b-41d4-a716-000000000009: the panel rejected it with 404 \
         (NotFoundHttpException: The requested resource could not be found on the server.)"
    );
    for status in [400, 401, 403, 404, 409, 419, 422, 499] {
        let fault = sim.fault(Fault::on("").status(status));
        for (call, error) in every_call(&panel, id(1)).await {
            assert!(matches!(error, PanelError::Rejected { status: found, .. } if found == status), "{call}: {error}");
        }
        assert!(fault.hits() >= 6, "{status}");
    }
}

/// The errors of all calls to a panel that fails each of them.
async fn every_call(panel: &HttpPanel, id: ServerId) -> Vec<(&'static str, PanelError)> {
    vec![
        ("list", panel.list().await.unwrap_err()),
        ("server", panel.server(id).await.unwrap_err()),
        ("script", panel.script(id).await.unwrap_err()),
        ("install", panel.report_install(id, true, false).await.unwrap_err()),
        ("state", panel.report_state(id, PowerState::Offline, PowerState::Starting).await.unwrap_err()),
        ("transfer", panel.report_transfer(id, false).await.unwrap_err()),
        ("reset", panel.reset().await.unwrap_err()),
    ]
}

#[tokio::test]
async fn an_answer_that_is_not_the_panels_is_an_outage() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    let page = "<!DOCTYPE html><title>Just a moment...</title>";
    for (status, body) in [
        (403, page),
        (404, "<html><head><title>404 Not Found</title></head><hr><center>nginx/1.24.0</center></html>"),
        (401, "Authorization Required"),
        (405, ""),
        (407, "Proxy Authentication Required"),
        (419, page),
        (429, "error code: 1015"),
        (403, r#"{"title": "Error 1020: Access denied", "status": 403}"#),
        (403, r#"{"message": "Forbidden"}"#),
        (403, r#"{"errors": []}"#),
        (403, r#"{"success": false, "errors": [{"code": 1006, "message": "Access denied"}]}"#),
        (422, r#"{"message": "Of another program.", "errors": {"field": ["It is missing."]}}"#),
        (403, r#"{"errors": "none"}"#),
        (404, r#"["errors"]"#),
        (403, r#"{"errors": [{"code": "#),
        // What a page with a status of success says is no answer either.
        (200, page),
        (202, "queued"),
        (200, ""),
    ] {
        let _fault = sim.fault(Fault::on("").status(status).body(body));
        for (call, error) in every_call(&panel, id(1)).await {
            let failed = matches!(error, PanelError::Failed { .. });
            assert!(failed && !error.is_final(), "{call} with {status} {body:?}: {error}");
        }
    }
    // Calagopus, another panel, has texts. A panel in debug mode adds long traces.
    let trace = format!(r#"{{"errors": [{{"code": "E", "detail": "no", "meta": "{}"}}]}}"#, "x".repeat(300_000));
    for (body, detail) in [(r#"{"errors": ["no such node"]}"#, "(no such node)"), (&trace, "(E: no)")] {
        let _fault = sim.fault(Fault::on("").status(403).body(body.to_owned()));
        for (call, error) in every_call(&panel, id(1)).await {
            assert!(error.is_final() && error.to_string().ends_with(detail), "{call}: {error}");
        }
    }
    // Limits decide nothing, not even those of the panel itself.
    for status in [408, 429] {
        let _fault = sim.fault(Fault::on("").status(status));
        for (call, error) in every_call(&panel, id(1)).await {
            assert!(matches!(error, PanelError::Failed { .. }), "{call} with {status}: {error}");
        }
    }
}

#[tokio::test]
async fn activity_is_acknowledged_by_an_empty_page() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    let rows = [r#"{"event":"server:crashed","n":1}"#, r#"{"n":  2}"#];
    let rows = rows.map(|row| RawValue::from_string(row.to_owned()).unwrap());
    let rows = [&*rows[0], &*rows[1]];
    panel.report_activity(&rows).await.unwrap();
    let sent = sim.with(|call_log| call_log.requests.last().unwrap().clone());
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/activity"));
    assert_eq!(sent.json(), serde_json::json!({"data": [{"event": "server:crashed", "n": 1}, {"n": 2}]}));
    assert!(matches!(panel.report_activity(&[]).await, Err(PanelError::Rejected { status: 422, .. })));
    let _fault = sim.fault(Fault::on("activity").status(200).body("<html>maintenance</html>"));
    assert!(matches!(panel.report_activity(&rows).await, Err(PanelError::Failed { status: 200, .. })));
}

#[tokio::test]
async fn the_pause_that_an_answer_asks_for_is_read() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    let (now, later) = ("Sun, 29 Nov 2026 05:00:00 GMT", "Sun, 29 Nov 2026 05:00:40 GMT");
    for (value, seconds) in [
        ("7", 7),
        (" 0 ", 0),
        ("86400", 300),
        (later, 40),
        ("Sun, 29 Nov 2026 04:00:00 GMT", 0),
        ("-1", 0),
        ("soon", 0),
    ] {
        let fault = Fault::on("reset").status(429).header("retry-after", value).header("date", now);
        let _fault = sim.fault(fault);
        let error = panel.reset().await.unwrap_err();
        assert_eq!(error.pause(), Duration::from_secs(seconds), "{value}");
        assert_eq!(error.pause_of_waiting(), Some(error.pause()), "{value}");
    }
}

#[tokio::test]
async fn an_error_of_the_panel_is_not_final_and_not_tried_again_here() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    for status in [500, 502, 503, 304, 300] {
        let fault = sim.fault(Fault::on(LIST).status(status).body("<html>\n oops"));
        let error = panel.list().await.unwrap_err();
        assert!(matches!(error, PanelError::Failed { status: found, .. } if found == status), "{error}");
        // 304 has no body by definition.
        assert!(status == 304 || error.to_string().contains("(<html> oops)"), "{error}");
        assert!(!error.is_final());
        assert_eq!(fault.hits(), 1, "{status} was tried again");
    }
}

#[tokio::test]
async fn a_broken_connection_is_not_tried_again_here() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    // Also on a connection that was used before.
    panel.list().await.unwrap();
    let fault = sim.fault(Fault::on(LIST).dropped());
    let error = panel.list().await.unwrap_err();
    assert!(matches!(&error, PanelError::Unreachable { call, .. } if call.starts_with("GET /api/remote/servers?")));
    assert_eq!(fault.hits(), 1);
    drop(fault);
    panel.list().await.unwrap();
}

#[tokio::test]
async fn a_panel_that_is_away_is_unreachable_until_it_is_back() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    panel.list().await.unwrap();
    for _ in 0..3 {
        sim.pause();
        // The first one may be on a connection whose end was not seen yet.
        let error = panel.list().await.unwrap_err();
        assert!(matches!(error, PanelError::Unreachable { .. }), "{error}");
        let error = panel.list().await.unwrap_err();
        assert!(matches!(&error, PanelError::Unreachable { cause, .. } if cause.contains("refused")), "{error}");
        sim.resume();
        panel.list().await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_answer_is_a_timeout() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let limit = Duration::from_millis(200);
    let panel = HttpPanel::new(&PanelConfig { timeout: limit, ..options(&sim) }, false).unwrap();
    let fault = sim.fault(Fault::on(&id.to_string()).held());
    let began = Instant::now();
    let error = panel.server(id).await.unwrap_err();
    assert!(matches!(error, PanelError::Timeout { limit: found, .. } if found == limit), "{error}");
    assert!(!error.is_final());
    assert!(began.elapsed() >= limit);
    assert_eq!(fault.hits(), 1);
    drop(fault);
    panel.server(id).await.unwrap();
}

#[tokio::test]
async fn an_invalid_response_is_an_error_of_its_own() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let panel = panel(&sim);
    for body in ["[]", "5", "{}", r#"{"settings": {}, "process_configuration": {}}"#] {
        let _fault = sim.fault(Fault::on(&format!("{id}$")).status(200).body(body));
        let error = panel.server(id).await.unwrap_err();
        assert!(matches!(error, PanelError::InvalidResponse { .. }), "{body}: {error}");
        assert!(!error.is_final(), "{body}");
    }
    let _fault = sim.fault(Fault::on("install$").status(200).body("[1]"));
    assert!(matches!(panel.script(id).await.unwrap_err(), PanelError::InvalidResponse { .. }));

    sim.edit(&id.to_string(), |server| server.settings["build"] = json!("invalid"));
    let error = panel.server(id).await.unwrap_err();
    assert!(error.to_string().contains("settings.build: expected an object, found a text"), "{error}");
}

#[tokio::test]
async fn an_answer_about_another_server_is_invalid() {
    let sim = PanelSim::start();
    let ids = add(&sim, 2);
    sim.edit(&ids[0].to_string(), |server| server.settings["uuid"] = json!(ids[1]));
    assert!(matches!(panel(&sim).server(ids[0]).await.unwrap_err(), PanelError::InvalidResponse { .. }));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let body = format!(r#"{{"script": "{}"}}"#, "x".repeat(20 << 20));
    let _fault = sim.fault(Fault::on("install$").status(200).body(body));
    let error = panel(&sim).script(id).await.unwrap_err();
    assert!(error.to_string().contains("longer than 16 MiB"), "{error}");
}

#[tokio::test]
async fn a_report_is_acknowledged_by_204_or_json() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let panel = panel(&sim);
    for (status, body) in [(204, ""), (200, "null"), (200, "[]"), (202, r#"{"message": "queued"}"#)] {
        let _fault = sim.fault(Fault::on("install$").method("POST").status(status).body(body));
        panel.report_install(id, false, true).await.unwrap();
    }
    assert_eq!(sim.with(|call_log| call_log.servers[0].installed), None, "the faults answered");
}

// ------------------------------------------------------------------ redirects

#[tokio::test]
async fn redirects_are_followed_with_the_method_and_the_token() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let panel = panel(&sim);
    let target = format!("{}/api/remote/servers/{id}/install", sim.url());
    for status in [301, 302, 307, 308] {
        let _fault = sim.fault(Fault::on("reset").status(status).header("location", &target));
        let mark = sim.mark();
        // The answer is the target's, which wants another body.
        let error = panel.reset().await.unwrap_err();
        assert!(matches!(error, PanelError::Rejected { status: 422, .. }), "{status}: {error}");
        let followed = sim.matching(mark, "POST", ".*/install");
        assert_eq!(followed.len(), 1, "{status}");
        assert_eq!(&followed[0].body[..], b"null");
    }
    for status in [301, 302, 303, 307, 308] {
        let _fault =
            sim.fault(Fault::on(LIST).status(status).header("location", "/api/remote/servers?page=1").times(1));
        assert_eq!(panel.list().await.unwrap().servers.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn the_error_of_a_redirect_names_the_fix() {
    let sim = PanelSim::start();
    let panel = panel(&sim);
    for (location, what) in [
        ("/api/remote/servers", "more than 10 times"),
        ("http://elsewhere.example/api/remote/servers", "http://elsewhere.example"),
        ("ftp://127.0.0.1/", "ftp://127.0.0.1"),
        ("http://[", "without a valid location"),
    ] {
        let fault = sim.fault(Fault::on(LIST).status(302).header("location", location));
        let error = panel.list().await.unwrap_err();
        assert!(matches!(error, PanelError::Failed { status: 302, .. }), "{error}");
        assert!(error.to_string().contains(what) && error.to_string().contains("`remote` in config.yml"), "{error}");
        assert_eq!(fault.hits(), if location.starts_with('/') { 11 } else { 1 });
    }
    let _fault = sim.fault(Fault::on("reset").status(303).header("location", "/elsewhere"));
    assert!(matches!(panel.reset().await.unwrap_err(), PanelError::Failed { status: 303, .. }));
}

#[tokio::test]
async fn a_panel_that_moved_to_https_is_asked_there() {
    let sim = PanelSim::start();
    // No server speaks TLS there; the error shows that it was tried.
    let location = format!("https://{}/api/remote/servers", sim.address());
    let fault = sim.fault(Fault::on(LIST).status(301).header("location", &location));
    let error = panel(&sim).list().await.unwrap_err();
    assert!(matches!(error, PanelError::Unreachable { .. }), "{error}");
    assert_eq!(fault.hits(), 1);
}
