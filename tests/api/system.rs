//! What the panel asks about the node and the resources of servers.

use std::time::Duration;

use alula::model::PowerState;
use alula::testing::IMAGE;
use alula::testing::fake::{Act, Load, Program};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::{ApiNode, TOKEN};

#[tokio::test(start_paused = true)]
async fn the_panel_reads_what_a_running_server_uses() {
    let node = ApiNode::new();
    let load = Load { memory_bytes: 3 << 20, cpu_percent: 150, bytes_per_second: 100 };
    let program = Program::idle().and_then(Duration::from_secs(1), Act::Print("up".into())).uses(load);
    node.engine.set_program(IMAGE, program);
    let id = node.add(1);
    let used = async || {
        let one = node.ask(Method::GET, &format!("/api/servers/{id}"), "").await.json();
        let all = node.ask(Method::GET, "/api/servers", "").await.json();
        assert_eq!(one["utilization"]["state"], all[0]["utilization"]["state"]);
        assert_eq!(one["state"], one["utilization"]["state"]);
        one["utilization"].clone()
    };
    let zeros = |limit: &Value| {
        json!({"memory_bytes": 0, "memory_limit_bytes": limit, "cpu_absolute": 0.0, "network": {"rx_bytes": 0, "tx_bytes": 0},
            "disk_io": {"read_bytes": 0, "write_bytes": 0}, "uptime": 0, "state": "offline", "disk_bytes": 0})
    };
    let offline = used().await;
    assert_eq!(offline, zeros(&offline["memory_limit_bytes"]));
    let started = node.ask(Method::POST, &format!("/api/servers/{id}/power"), r#"{"action":"start"}"#).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    node.becomes(id, PowerState::Starting).await;
    assert!(used().await["uptime"].as_u64().unwrap() > 0, "0 is offline for the panel");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let running = used().await;
    assert_eq!((&running["memory_bytes"], &running["cpu_absolute"]), (&json!(3 << 20), &json!(150.0)), "{running}");
    assert!(running["network"]["rx_bytes"].as_u64().unwrap() >= 900, "{running}");
    assert!((10_000..13_000).contains(&running["uptime"].as_u64().unwrap()), "{running}");
    node.ask(Method::POST, &format!("/api/servers/{id}/power"), r#"{"action":"kill"}"#).await;
    node.becomes(id, PowerState::Offline).await;
    let offline = used().await;
    assert_eq!(offline, zeros(&offline["memory_limit_bytes"]));
    assert_eq!(node.engine.calls().get("counters"), None, "the engine was not asked");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_does_not_delay_the_resources_of_a_server() {
    let node = ApiNode::new();
    let id = node.add(1);
    node.ask(Method::POST, &format!("/api/servers/{id}/power"), r#"{"action":"start"}"#).await;
    node.becomes(id, PowerState::Starting).await;
    node.engine.set_remote(true);
    node.engine.hang(&id.to_string(), true);
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        let answer = node.ask(Method::GET, &format!("/api/servers/{id}"), "").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_panel_reads_what_the_node_has_and_uses() {
    let node = ApiNode::with_config(|node| node.docker.system_ips = vec!["192.0.2.77".into()]);
    let ips = node.ask(Method::GET, "/api/system/ips", "").await.json();
    let ips: Vec<&str> = ips["ip_addresses"].as_array().unwrap().iter().map(|ip| ip.as_str().unwrap()).collect();
    assert_eq!(ips.last(), Some(&"192.0.2.77"));
    assert!(!ips.contains(&"127.0.0.1") && !ips.contains(&"::1"), "{ips:?}");

    let used = node.ask(Method::GET, "/api/system/utilization", "").await.json();
    for key in [
        "memory_total",
        "memory_used",
        "swap_total",
        "swap_used",
        "load_average1",
        "load_average5",
        "load_average15",
        "cpu_percent",
        "disk_total",
        "disk_used",
    ] {
        assert!(used[key].is_number(), "{key}: {used}");
    }
    let root = used["disk_details"].as_array().unwrap().iter().find(|disk| disk["tags"].to_string().contains("Root"));
    let root = root.unwrap_or_else(|| panic!("{used}"));
    assert!(root["device"].is_string() && root["mountpoint"].is_string() && root["used_space"].is_u64(), "{root}");

    let disk = node.ask(Method::GET, "/api/system/docker/disk", "").await.json();
    assert_eq!(
        disk,
        json!({"containers_size": 0, "images_total": 1, "images_active": 0, "images_size": 0, "build_cache_size": 0})
    );
    let pruned = node.ask(Method::DELETE, "/api/system/docker/image/prune", "").await.json();
    assert_eq!(pruned, json!({"ImagesDeleted": null, "SpaceReclaimed": 0}));

    node.engine.set_engine_up(false);
    for (method, path) in [(Method::GET, "/api/system/docker/disk"), (Method::DELETE, "/api/system/docker/image/prune")]
    {
        let answer = node.ask(method, path, "").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn diagnostics_are_a_text_without_secrets_also_without_an_engine() {
    let node = ApiNode::new();
    node.add(1);
    let text = async |query: &str| {
        let answer = node.ask(Method::GET, &format!("/api/diagnostics{query}"), "").await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
        assert!(!answer.text.contains(TOKEN), "{answer:?}");
        answer.text
    };
    let report = text("").await;
    assert!(report.contains("Panel Location: {redacted}") && report.contains("0.0.0-fake"), "{report}");
    let report = text("?include_endpoints=true&include_logs=false").await;
    assert!(
        report.contains("Panel Location: https://panel.example.com") && report.ends_with("Logs redacted.\n"),
        "{report}"
    );
    let sections = node.ask_locally("/local/diagnostics").await.json();
    assert_eq!(sections["sections"][0]["title"], "Versions");

    node.engine.set_engine_up(false);
    assert!(text("").await.contains("connection refused"));
    let began = tokio::time::Instant::now();
    node.engine.set_engine_up(true);
    node.engine.hang("engine", true);
    text("").await;
    assert!(began.elapsed() < Duration::from_secs(4), "a panel waits five seconds: {:?}", began.elapsed());
}
