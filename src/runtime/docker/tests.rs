//! The runtime with a scripted engine, which returns rare answers of real ones.

pub(super) mod engine;

use std::sync::Mutex;

use bytes::Bytes;
use engine::{Answer, ScriptedEngine};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::runtime::ContainerChange;

const SERVER: &str = "550e8400-e29b-41d4-a716-446655440000";

fn id() -> ServerId {
    SERVER.parse().unwrap()
}

fn limits() -> Limits {
    Limits { memory: 64 << 20, ..Limits::default() }
}

#[tokio::test]
async fn an_unreachable_engine_is_an_error_of_the_calls() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let runtime = DockerRuntime::connect(Address::Unix(socket.clone()), crate::testing::test_host());
    let error = runtime.list().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");

    let engine = ScriptedEngine::start_at(&socket, "1.41", |_| Answer::json(200, "[]"));
    assert_eq!(runtime.list().await.unwrap(), []);
    drop(engine);
    assert!(runtime.list().await.unwrap_err().is_outage());
}

#[tokio::test]
async fn the_version_is_negotiated_again_after_an_outage() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let runtime = DockerRuntime::connect(Address::Unix(socket.clone()), crate::testing::test_host());

    let old = ScriptedEngine::start_at(&socket, "1.41", |_| Answer::json(200, "[]"));
    runtime.list().await.unwrap();
    runtime.list().await.unwrap();
    assert_eq!(old.paths(), ["/version", "/v1.41/containers/json", "/v1.41/containers/json"]);
    drop(old);
    runtime.list().await.unwrap_err();
    let new = ScriptedEngine::start_at(&socket, "1.52", |_| Answer::json(200, "[]"));
    runtime.list().await.unwrap();
    assert_eq!(new.paths(), ["/version", "/v1.52/containers/json"]);
}

#[tokio::test]
async fn the_version_is_negotiated_again_after_a_mismatch() {
    let last_reported = Mutex::new(0);
    let engine = ScriptedEngine::start("1.41", move |_| {
        let mut last_reported = last_reported.lock().unwrap();
        *last_reported += 1;
        match *last_reported {
            1 => Answer::error(400, "client version 1.41 is too old. Minimum supported API version is 1.44"),
            _ => Answer::json(200, "[]"),
        }
    });
    let runtime = engine.runtime();
    assert!(runtime.list().await.unwrap_err().is_outage());
    runtime.list().await.unwrap();
    assert_eq!(engine.paths().iter().filter(|path| *path == "/version").count(), 2);
}

#[tokio::test]
async fn calls_of_a_hanging_engine_time_out() {
    let engine = ScriptedEngine::start("1.41", |_| Answer::Silence);
    let runtime = engine.runtime();
    runtime.wire.platform().await.unwrap();
    tokio::time::pause();
    for (limit, error) in [
        (QUICK, runtime.list().await.map(drop)),
        (QUICK, runtime.inspect(id(), Role::Server).await.map(drop)),
        (QUICK, runtime.signal("0123", "SIGTERM").await),
        (QUICK, runtime.update("0123", &limits()).await),
        (QUICK, runtime.attach("0123").await.map(drop)),
        (QUICK, runtime.logs("0123", LogPart::All).await.map(drop)),
        (QUICK, runtime.events().await.map(drop)),
        (QUICK, runtime.image("a").await.map(drop)),
        (START, runtime.start("0123").await),
        (REMOVE, runtime.remove("0123").await.map(drop)),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert!(error.to_string().ends_with(&format!("within {limit:?}")), "{error}");
        assert!(error.is_outage());
    }
}

#[tokio::test]
async fn calls_without_an_effect_are_no_errors() {
    type Case = (&'static str, u16, &'static str);
    let run = async |(method, status, message): Case| {
        let engine = ScriptedEngine::start("1.41", move |_| match status {
            304 => Answer::empty(304),
            _ => Answer::error(status, message),
        });
        let runtime = engine.runtime();
        match method {
            "start" => runtime.start("0123").await,
            "signal" => runtime.signal("0123", "SIGTERM").await,
            "remove" => runtime.remove("0123").await.map(|removal| assert_eq!(removal, Removal::Done)),
            _ => runtime.update("0123", &limits()).await,
        }
    };
    for case in [
        ("start", 304, ""),
        ("signal", 404, "No such container: 0123"),
        ("signal", 409, "Cannot kill container: 0123: Container 0123 is not running"),
        ("signal", 500, "cannot kill container 0123: container is not running"),
        ("remove", 404, "No such container: 0123"),
        ("update", 404, "No such container: 0123"),
    ] {
        assert_eq!(run(case).await, Ok(()), "{case:?}");
    }
    for case in [
        ("start", 404, "No such container"),
        ("start", 500, "port is already allocated"),
        ("signal", 500, "no such process group"),
        ("signal", 400, "Invalid signal: X"),
        ("remove", 409, "cannot remove a running container"),
        ("remove", 500, "device busy"),
        ("update", 500, "memory limit too low"),
    ] {
        let error = run(case).await.unwrap_err();
        assert!(error.to_string().contains(case.2) && !error.is_outage(), "{error}");
    }
}

#[tokio::test]
async fn a_second_removal_is_under_way() {
    let engine =
        ScriptedEngine::start("1.41", |_| Answer::error(409, "removal of container 0123 is already in progress"));
    assert_eq!(engine.runtime().remove("0123").await, Ok(Removal::UnderWay));
}

#[tokio::test]
async fn limits_are_changed_by_the_route_of_podman_where_there_is_no_other() {
    for is_podman in [true, false] {
        let engine =
            ScriptedEngine::start("1.41", move |request| match request.path.contains("/libpod/") && is_podman {
                true => Answer::json(201, r#""0123""#),
                false => Answer::error(404, "Not Found"),
            });
        assert_eq!(engine.runtime().update("0123", &limits()).await, Ok(()), "an error would be retried without end");
        let paths = engine.requests().into_iter().map(|request| request.path);
        assert_eq!(paths.filter(|path| path == "/v1.41/libpod/containers/0123/update").count(), 1);
    }
}

#[tokio::test]
async fn current_limits_are_those_applied_last() {
    let engine = ScriptedEngine::start("1.41", |request| match request.path.as_str() {
        path if path.ends_with("/update") => Answer::json(200, r#"{"Warnings":[]}"#),
        path if path.contains("/containers/json") => Answer::json(200, "[]"),
        _ => Answer::json(
            200,
            r#"{"Id":"0123","State":{"Status":"running"},"Config":{"Labels":{"alula.limits":"made"}}}"#,
        ),
    });
    let runtime = engine.runtime();
    let hash = async || runtime.inspect(id(), Role::Server).await.unwrap().unwrap().limits_hash.unwrap();
    assert_eq!(hash().await, "made");
    runtime.update("0123", &limits()).await.unwrap();
    assert_eq!(hash().await, limits().hash());
    runtime.list().await.unwrap();
    assert_eq!(hash().await, "made", "limits of containers that are not listed are dropped");
}

#[tokio::test]
async fn raw_bytes_of_a_terminal_are_not_decoded() {
    // Equal to the header of a frame of 4 GiB.
    const HOSTILE: &[u8] = b"\x01\0\0\0\xff\xff\xff\xffno end of a line";
    let engine = ScriptedEngine::start("1.41", |request| match request.path.contains("/logs") {
        true => Answer::Reply { status: 200, body: HOSTILE.into() },
        false => Answer::json(200, r#"{"Id":"0123","State":{"Status":"running"},"Config":{"Tty":true}}"#),
    });
    let runtime = engine.runtime();
    let log = runtime.logs("0123", LogPart::Tail(7)).await.unwrap();
    let pieces: Vec<Bytes> = log.map(Result::unwrap).collect().await;
    assert_eq!(pieces.concat(), HOSTILE);
    assert!(engine.requests().iter().any(|request| request.query.contains("follow=0&tail=7")));
}

#[tokio::test]
async fn the_terminal_of_an_ended_container_ends_at_once() {
    let engine = ScriptedEngine::start("1.41", |request| match request.path.ends_with("/attach") {
        true => Answer::Upgrade,
        false => Answer::json(200, r#"{"Id":"0123","State":{"Status":"exited"},"Config":{"Tty":true}}"#),
    });
    let mut terminal = engine.runtime().attach("0123").await.unwrap();
    assert!(terminal.output.next().await.is_none());
}

#[tokio::test]
async fn a_terminal_has_input_and_output() {
    let engine = ScriptedEngine::start("1.41", |request| match request.path.ends_with("/attach") {
        true => Answer::Upgrade,
        false => Answer::json(200, r#"{"Id":"0123","State":{"Status":"running"},"Config":{"Tty":true}}"#),
    });
    let mut terminal = engine.runtime().attach("0123").await.unwrap();
    terminal.input.write_all(b"say hello\n").await.unwrap();
    terminal.input.flush().await.unwrap();
    // This engine echoes.
    assert_eq!(terminal.output.next().await.unwrap().unwrap(), "say hello\n");
    drop(engine);
    let rest: Vec<_> = terminal.output.collect().await;
    assert!(rest.len() <= 1 && rest.iter().all(Result::is_err), "{rest:?}");
}

#[tokio::test]
async fn events_flow_once_the_engine_listens() {
    let event = |action: &str, name: &str| {
        format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"1","Attributes":{{"name":"{name}"}}}}}}"#)
            + "\n"
    };
    let body = event("start", "postgres")
        + &event("die", SERVER)
        + "garbage\n"
        + &event("oom", &format!("{SERVER}_installer"));
    let engine = ScriptedEngine::start("1.41", move |_| Answer::json(200, &body));
    let events: Vec<RuntimeEvent> = engine.runtime().events().await.unwrap().collect().await;
    let event = |role, change| RuntimeEvent { server: id(), role, change };
    let expected = [(Role::Server, ContainerChange::Ended), (Role::Installer, ContainerChange::Other)];
    assert_eq!(events, expected.map(|(role, change)| event(role, change)));
    let request = engine.requests().pop().unwrap();
    assert!(request.query.contains("since=") && request.query.contains("filters="), "{request:?}");

    let rejecting = ScriptedEngine::start("1.41", |_| Answer::error(500, "no events today"));
    assert!(rejecting.runtime().events().await.is_err_and(|error| !error.is_outage()));
}

/// Pulls `a/b:c` from an engine with this answer.
async fn pull(answer: impl Fn() -> Answer + Send + Sync + 'static) -> (Result<(), RuntimeError>, Vec<String>) {
    let engine = ScriptedEngine::start("1.41", move |_| answer());
    let lines = Mutex::new(Vec::new());
    let progress = |line| lines.lock().unwrap().push(line);
    let pulled = engine.runtime().pull("a/b:c", None, &progress).await;
    let request = engine.requests().pop().unwrap();
    assert_eq!(request.query, "fromImage=a%2Fb&tag=c&platform=linux%2Famd64");
    (pulled, lines.into_inner().unwrap())
}

#[tokio::test]
async fn errors_in_the_stream_of_a_pull_are_errors() {
    for error in [
        r#"{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}"#,
        r#"{"error":"manifest unknown"}"#,
    ] {
        let body =
            format!("{{\"status\":\"Pulling from a/b\",\"id\":\"c\"}}\r\n{error}\r\n{{\"status\":\"more\"}}\r\n");
        let (pulled, lines) = pull(move || Answer::json(200, &body)).await;
        let error = pulled.unwrap_err();
        assert_eq!(error.to_string(), "pulling the image a/b:c: manifest unknown");
        assert_eq!(lines, ["c: Pulling from a/b"]);
    }
    let (pulled, _) = pull(|| Answer::error(404, "pull access denied for a/b")).await;
    assert_eq!(pulled.unwrap_err().kind, ErrorKind::NotFound);
    let (pulled, lines) = pull(|| Answer::json(200, "{\"status\":\"Image is up to date\"}\n")).await;
    assert_eq!((pulled, lines), (Ok(()), vec!["Image is up to date".to_owned()]));
}

#[tokio::test]
async fn a_broken_pull_is_an_outage() {
    let (pulled, _) = pull(|| Answer::CutOff { body: "{\"status\":\"Pulling fs layer\"}\n".into() }).await;
    assert!(pulled.unwrap_err().is_outage());
}

#[tokio::test]
async fn a_dropped_pull_closes_its_connection() {
    let engine = ScriptedEngine::start("1.41", |_| Answer::Endless { body: "{\"status\":\"Downloading\"}\n".into() });
    let runtime = engine.runtime();
    let (last_reported, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let progress = move |line| drop(last_reported.send(line));
    {
        let pulling = runtime.pull("a/b:c", None, &progress);
        tokio::pin!(pulling);
        tokio::select! {
            done = &mut pulling => panic!("{done:?}"),
            line = hear.recv() => assert_eq!(line.unwrap(), "Downloading"),
        }
        assert_eq!(engine.closed_by_client(), 0);
    }
    engine.wait_for_close().await;
}

#[tokio::test]
async fn images_are_found_by_their_exact_reference() {
    let engine = ScriptedEngine::start("1.41", |_| {
        Answer::json(
            200,
            r#"{"Id":"sha256:0f0f","RepoTags":["ghcr.io/a/b:c","busybox:latest"],"RepoDigests":["ghcr.io/a/b@sha256:aa"]}"#,
        )
    });
    let runtime = engine.runtime();
    for (reference, there) in [
        ("ghcr.io/a/b:c", true),
        ("busybox", true),
        ("docker.io/library/busybox:latest", true),
        ("ghcr.io/a/b@sha256:aa", true),
        ("sha256:0f0f", true),
        ("0f0f", true),
        ("0f", false),
        ("ghcr.io/a/b", false),
        ("ghcr.io/a/b:d", false),
        ("../../containers/json", false),
        ("a?b", false),
    ] {
        assert_eq!(runtime.image(reference).await.map(|id| id.is_some()), Ok(there), "{reference}");
    }
    let without = ScriptedEngine::start("1.41", |_| Answer::error(404, "No such image"));
    assert_eq!(without.runtime().image("a").await, Ok(None));
}

#[tokio::test]
async fn an_invalid_response_is_no_outage() {
    let engine = ScriptedEngine::start("1.41", |_| Answer::json(200, "<html>"));
    let error = engine.runtime().list().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed, "{error:?}");
    assert!(error.to_string().contains("invalid response"), "{error}");
}

#[tokio::test]
async fn a_network_that_another_process_created_is_used() {
    let asked = Mutex::new(0);
    let engine = ScriptedEngine::start("1.41", move |request| match request.path.as_str() {
        path if path.ends_with("/create") => Answer::error(409, "network with name pelican_nw already exists"),
        _ => {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            match *asked {
                1 => Answer::error(404, "network pelican_nw not found"),
                _ => Answer::json(
                    200,
                    r#"{"Name":"pelican_nw","Driver":"bridge","IPAM":{"Config":[{"Gateway":"10.0.0.1"}]}}"#,
                ),
            }
        }
    });
    let spec = NetworkSpec {
        name: "pelican_nw".into(),
        driver: "bridge".into(),
        internal: false,
        ipv6: false,
        v4: None,
        v6: None,
        purpose: crate::runtime::NetworkPurpose::Outgoing { address: "10.0.0.9".into() },
    };
    let info = engine.runtime().ensure_network(&spec).await.unwrap();
    assert_eq!(info.gateway.as_deref(), Some("10.0.0.1"));
}

#[tokio::test]
async fn each_call_is_one_request() {
    let engine = ScriptedEngine::start("1.41", |request| match request.path.trim_start_matches("/v1.41") {
        "/containers/create" => Answer::json(201, r#"{"Id":"0123","Warnings":["a warning"]}"#),
        "/info" => Answer::json(
            200,
            r#"{"ServerVersion":"29.1","CgroupDriver":"systemd","CgroupVersion":"2","Containers":3,"ContainersRunning":1,
                "ContainersPaused":0,"ContainersStopped":2,"Driver":"overlay2","RuncCommit":{"ID":""},
                "DriverStatus":[["Supports d_type","true"],["Backing Filesystem","extfs"]],"DefaultRuntime":"crun"}"#,
        ),
        "/containers/0123/start" | "/containers/0123/kill" | "/containers/0123" => Answer::empty(204),
        "/images/ghcr.io/a/b:c/json" => Answer::json(200, r#"{"Id":"sha256:0f","RepoTags":["ghcr.io/a/b:c"]}"#),
        "/networks/ip-10-0-0-9" => Answer::error(404, "no such network"),
        _ => Answer::json(200, "{}"),
    });
    let runtime = engine.runtime();
    let purpose = Purpose { server: id(), role: Role::Server, token: "t".into() };
    let info = EngineInfo {
        version: "29.1".into(),
        cgroup_driver: "systemd".into(),
        cgroup_version: "2".into(),
        containers: [3, 1, 0, 2],
        storage_driver: "overlay2".into(),
        storage_filesystem: "extfs".into(),
        runc: "crun".into(),
    };
    assert_eq!(runtime.engine().await, Ok(info));
    assert_eq!(runtime.create(&containers::tests::full(), &purpose).await.unwrap(), "0123");
    runtime.start("0123").await.unwrap();
    runtime.signal("0123", "SIGINT").await.unwrap();
    runtime.update("0123", &limits()).await.unwrap();
    assert_eq!(runtime.remove("0123").await, Ok(Removal::Done));
    assert_eq!(runtime.image("ghcr.io/a/b:c").await.unwrap().as_deref(), Some("sha256:0f"));
    runtime.ensure_network(&crate::runtime::spec_builder::outgoing_network("10.0.0.9")).await.unwrap_err();
    let lines = engine.requests().into_iter().map(|request| {
        let target = [request.path, request.query].join("?");
        format!("{} {}", request.method, target.trim_end_matches('?'))
    });
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "GET /version".to_owned(),
            "GET /v1.41/info".into(),
            format!("POST /v1.41/containers/create?name={SERVER}&platform="),
            "POST /v1.41/containers/0123/start".into(),
            "POST /v1.41/containers/0123/kill?signal=SIGINT".into(),
            "POST /v1.41/containers/0123/update".into(),
            "DELETE /v1.41/containers/0123?v=true&force=true&link=false".into(),
            "GET /v1.41/images/ghcr.io/a/b:c/json".into(),
            "GET /v1.41/networks/ip-10-0-0-9".into(),
            "POST /v1.41/networks/create".into(),
            "GET /v1.41/networks/ip-10-0-0-9".into(),
        ]
    );
}
