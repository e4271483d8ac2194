use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::model::{PublishedPort, Ulimit, UlimitName};
use crate::runtime::{Endpoint, LogDriver, VolumeRole, container_name};

const SERVER: &str = "550e8400-e29b-41d4-a716-446655440000";

fn id() -> ServerId {
    SERVER.parse().unwrap()
}

fn purpose() -> Purpose {
    Purpose { server: id(), role: Role::Server, token: "01TOKEN".into() }
}

/// A spec with all fields.
pub(in crate::runtime::docker) fn full() -> ContainerSpec {
    let labels = [("team", "blue"), ("alula.token", "spoofed"), ("alula.server", "spoofed"), ("alula.node", "spoofed")];
    ContainerSpec {
        name: container_name(id(), Role::Server),
        image: "game:1".into(),
        local_image: false,
        image_id: None,
        hostname: "host".into(),
        domainname: "games.example".into(),
        user: Some("988:988".into()),
        command: Some(vec!["run".into()]),
        environment: vec!["A=1".into(), "B=2".into()],
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        volumes: vec![
            Volume {
                role: VolumeRole::Data,
                path: Some("/data".into()),
                target: "/home/container".into(),
                read_only: false,
            },
            Volume {
                role: VolumeRole::Mount { source: "/srv/maps".into() },
                path: Some("/maps".into()),
                target: "/maps".into(),
                read_only: true,
            },
        ],
        tmpfs: BTreeMap::from([("/tmp".into(), "rw,size=1M".into())]),
        dns: vec!["1.1.1.1".into()],
        log: Some(LogDriver { driver: "local".into(), options: BTreeMap::from([("max-size".into(), "5m".into())]) }),
        security_opt: vec!["no-new-privileges".into()],
        read_only_root: true,
        cap_drop: vec!["mknod".into()],
        network_mode: "pelican_nw".into(),
        own_network: None,
        endpoint: Some(Endpoint {
            network: "pelican_nw".into(),
            address: "10.0.0.9".into(),
            gateway: "10.0.0.1".into(),
        }),
        userns_mode: "host".into(),
        ports: vec![
            PublishedPort { address: "10.0.0.9".into(), port: 25565 },
            PublishedPort { address: "172.18.0.1".into(), port: 25565 },
        ],
        shm_mib: Some(256),
        ulimits: BTreeMap::from([(UlimitName::Nofile, Ulimit { soft: 1024, hard: 4096 })]),
        limits: limits(),
        start_limits: None,
        fields: Fields::default(),
    }
}

fn limits() -> Limits {
    Limits {
        memory: 100,
        memory_reservation: 90,
        memory_swap: -1,
        oom_kill_disable: true,
        pids: Some(512),
        blkio_weight: Some(300),
        cpu: Some(50_000),
        cpuset: "0-1".into(),
    }
}

/// A spec without optional fields.
fn bare() -> ContainerSpec {
    ContainerSpec {
        domainname: String::new(),
        user: None,
        command: None,
        labels: BTreeMap::new(),
        log: None,
        security_opt: vec![],
        read_only_root: false,
        cap_drop: vec![],
        dns: vec![],
        endpoint: None,
        userns_mode: String::new(),
        ports: vec![],
        limits: Limits::default(),
        shm_mib: None,
        ulimits: BTreeMap::new(),
        ..full()
    }
}

fn body(spec: &ContainerSpec) -> serde_json::Value {
    let mut body = serde_json::to_value(create_body(&NodeIdentity::default(), spec, &purpose())).unwrap();
    body.sort_all_objects();
    body
}

#[test]
fn a_full_spec() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&body(&full())).unwrap());
}

#[test]
fn a_minimal_spec() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&body(&bare())).unwrap());
}

#[test]
fn labels_of_settings_do_not_replace_those_of_the_daemon() {
    let labels = labels(&NodeIdentity::default(), &full(), &purpose());
    assert_eq!(labels[LABEL_SERVER], SERVER);
    assert_eq!((labels[LABEL_TOKEN].as_str(), labels[LABEL_NODE].as_str()), ("01TOKEN", ""));
    assert_eq!(labels["team"], "blue");
}

#[test]
fn updates_contain_what_can_be_changed_in_place() {
    let update = |limits: &Limits| serde_json::to_value(update_body(limits)).unwrap();
    assert_eq!(
        update(&limits()),
        json!({"Memory": 100, "MemoryReservation": 90, "MemorySwap": -1, "PidsLimit": 512, "BlkioWeight": 300,
               "CpuQuota": 50_000, "CpuPeriod": 100_000, "CpuShares": 1024, "CpusetCpus": "0-1"})
    );
    assert_eq!(update(&Limits::default()), json!({"CpuQuota": -1}), "a limit of CPU time is taken away");
}

#[test]
fn states() {
    let state = |value: serde_json::Value| serde_json::from_value::<EngineState>(value).unwrap().state();
    let exited = |code, oom_killed| ContainerState::Exited { code, oom_killed };
    for (value, expected) in [
        (json!({"Status": "created", "Running": false, "ExitCode": 0}), ContainerState::Created),
        (json!({"Status": "created", "ExitCode": 128, "Error": "port is taken"}), ContainerState::StartFailed),
        (json!({"Status": "running", "Running": true}), ContainerState::Running),
        (json!({"Status": "paused", "Running": true, "Paused": true}), ContainerState::Running),
        (json!({"Status": "restarting", "Running": true}), ContainerState::Running),
        (json!({"Status": "stopping"}), ContainerState::Running),
        (json!({"Status": "exited", "ExitCode": 3}), exited(3, false)),
        (json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true}), exited(137, true)),
        (json!({"Status": "dead", "ExitCode": 1}), exited(1, false)),
        (json!({"Status": "removing", "ExitCode": 2}), exited(2, false)),
        (json!({"Status": "configured"}), ContainerState::Created),
        (json!({"Status": "initialized"}), ContainerState::Created),
        (json!({"Status": "stopped", "ExitCode": 5}), exited(5, false)),
        (json!({"Running": true}), ContainerState::Running),
        (json!({"Running": false, "ExitCode": 4}), exited(4, false)),
    ] {
        assert_eq!(state(value.clone()), expected, "{value}");
    }
}

#[test]
fn a_paused_container_runs_and_is_paused() {
    for (status, paused) in [("paused", true), ("running", false), ("exited", false)] {
        assert_eq!(inspected(json!({"Status": status}), json!({})).paused, paused, "{status}");
    }
}

fn inspected(state: serde_json::Value, labels: serde_json::Value) -> ContainerStatus {
    let container = json!({"Id": "0123", "State": state, "Config": {"Labels": labels, "StopSignal": "SIGINT"}});
    serde_json::from_value::<Inspection>(container).unwrap().status()
}

#[test]
fn a_status_is_read_back() {
    let labels = json!({"alula.token": "t", "alula.spec": "s", "alula.limits": "l", "Service": "Pelican"});
    let state =
        json!({"Status": "running", "StartedAt": "2026-01-31T12:00:00.5Z", "FinishedAt": "0001-01-01T00:00:00Z"});
    let status = inspected(state, labels);
    assert_eq!(status.token.as_deref(), Some("t"));
    assert_eq!(status.spec_hash.as_deref(), Some("s"));
    assert_eq!(status.limits_hash.as_deref(), Some("l"));
    assert_eq!(status.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(status.started_at, Timestamp::parse("2026-01-31T12:00:00.5Z"));
    assert_eq!(status.finished_at, None);
    let foreign = inspected(json!({"Status": "created"}), json!(null));
    assert_eq!((foreign.token, foreign.spec_hash, foreign.limits_hash), (None, None, None));
}

#[test]
fn image_fields_and_bound_ports_are_read_back() {
    let read = |container: serde_json::Value| serde_json::from_value::<Inspection>(container).unwrap().status();
    let port = |address: &str, port| PublishedPort { address: address.into(), port };
    let mut fields = Fields::default();
    fields.add(&crate::model::DigestKey::default(), "invocation", &"game");
    let status = read(json!({
        "Id": "0123", "State": {"Status": "running"},
        "Config": {"Image": "game:1", "Labels": {"alula.fields": fields.to_label()}},
        "NetworkSettings": {"Ports": {
            "25565/tcp": [{"HostIp": "127.0.0.1", "HostPort": "25565"}, {"HostIp": "", "HostPort": "30000"}],
            "25565/udp": [{"HostIp": "127.0.0.1", "HostPort": "25565"}],
            "80/tcp": null, "443/tcp": [{"HostIp": "::", "HostPort": ""}],
        }},
    }));
    assert_eq!((status.image.as_deref(), status.fields), (Some("game:1"), Some(fields)));
    assert_eq!(status.ports, [port("0.0.0.0", 30_000), port("127.0.0.1", 25_565)]);
    let foreign = read(json!({"Id": "0123", "State": {"Status": "exited"}, "NetworkSettings": {"Ports": null}}));
    assert_eq!((foreign.image, foreign.fields, foreign.ports.len()), (None, None, 0));
}

#[test]
fn signals_are_names_or_numbers() {
    for (signal, name) in [
        (json!("SIGINT"), Some("SIGINT")),
        (json!("3"), Some("3")),
        (json!(15), Some("15")),
        (json!(""), None),
        (json!(null), None),
    ] {
        assert_eq!(signal_name(&signal).as_deref(), name, "{signal}");
    }
}

#[test]
fn an_end_is_not_before_its_start() {
    let times = |status: &str, started: &str, finished: &str| {
        let time = |second: &str| format!("2026-01-31T12:00:{second}Z");
        let state = json!({"Status": status, "StartedAt": time(started), "FinishedAt": time(finished)});
        let status = inspected(state, json!({}));
        (
            status.started_at.unwrap() <= status.finished_at.unwrap(),
            status.finished_at == Timestamp::parse(&time(finished)),
        )
    };
    assert_eq!(times("exited", "05.002", "05.001"), (true, false));
    assert_eq!(times("exited", "05", "06"), (true, true));
    // Started again: the end is that of the previous run.
    assert_eq!(times("running", "05", "04"), (false, true));
}

#[test]
fn containers_belong_to_servers_by_labels_or_names() {
    let listed = |names: &[&str], labels: serde_json::Value, state: &str| {
        let container = json!({"Id": "0123", "Names": names, "Labels": labels, "State": state});
        let listed = super::listed(&NodeIdentity::default(), serde_json::from_value(container).unwrap())?;
        Some((listed.server.to_string(), listed.role, listed.running))
    };
    let ours = json!({"alula.server": SERVER, "alula.role": "installer"});
    let (by_name, installer) = (format!("/{SERVER}"), format!("/{SERVER}_installer"));
    let server = || SERVER.to_owned();
    assert_eq!(listed(&["/renamed"], ours.clone(), "running"), Some((server(), Role::Installer, true)));
    assert_eq!(listed(&[&by_name], json!({}), "exited"), Some((server(), Role::Server, false)));
    assert_eq!(listed(&[&installer], json!(null), "paused"), Some((server(), Role::Installer, true)));
    assert_eq!(listed(&["/other/link", &by_name], json!({}), "created"), Some((server(), Role::Server, false)));
    assert_eq!(listed(&["/postgres"], json!({"alula.server": "garbage", "alula.role": "server"}), "running"), None);
    assert_eq!(listed(&[], json!({}), "running"), None);
}

#[tokio::test]
async fn an_engine_without_the_wanted_log_driver_uses_its_own() {
    use crate::runtime::Runtime;
    use crate::runtime::docker::tests::engine::{Answer, ScriptedEngine};

    let engine = ScriptedEngine::start("1.41", |request| match request.body.contains(r#""Type":"local""#) {
        true => Answer::error(500, "invalid log driver: invalid argument"),
        false => Answer::json(201, r#"{"Id":"0123","Warnings":[]}"#),
    });
    assert_eq!(engine.runtime().create(&full(), &purpose()).await.unwrap(), "0123");
}
