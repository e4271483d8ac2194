//! `alula configure`, as the panel prints it for Wings.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::thread::JoinHandle;

use super::{Ended, Node};

const KEY: &str = "papp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DOCUMENT: &str = r#"{"debug": false, "uuid": "u", "token_id": "the-id", "token": "the-token",
    "api": {"host": "0.0.0.0", "port": 8080, "ssl": {"enabled": false, "cert": "/c", "key": "/k"}, "upload_limit": 100},
    "system": {"data": "/srv/volumes", "sftp": {"bind_port": 2022}}, "allowed_mounts": ["/mnt"], "remote": "http://other"}"#;

/// A panel that answers one request; gives its address, and the request's head.
fn panel(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, served)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn configure(node: &Node, url: &str, more: &[&str]) -> Ended {
    let mut command = node.bare_command();
    command
        .args(["configure", "--panel-url", url, "--token", KEY, "--node", "3", "--config", "etc/node.yml"])
        .args(more);
    Ended::of(command.output().unwrap())
}

#[test]
fn the_command_of_the_panel_writes_the_nodes_file() {
    let node = Node::new();
    // A host that is used to Wings has it under this name.
    let wings = node.folder.path().join("wings");
    symlink(env!("CARGO_BIN_EXE_alula"), &wings).unwrap();
    let (url, served) = panel(answer("200 OK", DOCUMENT));
    let mut command = Command::new(&wings);
    command.current_dir(node.folder.path());
    command.args(["configure", "--panel-url", &url, "--token", KEY, "--node", "3", "--config", "etc/node.yml"]);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("alula validate"), "{ended:?}");
    assert!(!format!("{ended:?}").contains(KEY) && !format!("{ended:?}").contains("the-token"), "{ended:?}");
    let head = served.join().unwrap().to_lowercase();
    assert!(head.starts_with("get /api/application/nodes/3/configuration http/1.1"), "{head}");
    assert!(
        head.contains(&format!("authorization: bearer {KEY}")) && head.contains("accept: application/json"),
        "{head}"
    );
    let path = node.folder.path().join("etc/node.yml");
    let text = fs::read_to_string(&path).unwrap();
    for part in ["token: the-token", "data: /srv/volumes", "- /mnt", &url] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    // A second time it asks, or overwrites if an option says so.
    let ended = configure(&node, &url, &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("use --override"), "{ended:?}");
    fs::write(&path, format!("# Mine.\n{text}app_name: games\n")).unwrap();
    let (url, _served) = panel(answer("200 OK", &DOCUMENT.replace("the-token", "another")));
    assert_eq!(configure(&node, &url, &["--override", "--allow-insecure"]).code, 0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("# Mine.\n") && text.contains("token: another") && text.contains("app_name: games"),
        "{text}"
    );
}

#[test]
fn a_panel_that_gives_no_configuration_is_explained() {
    let node = Node::new();
    for (response, part) in [
        (answer("401 Unauthorized", "{}"), "does not accept the API key"),
        (answer("403 Forbidden", "{}"), "does not accept the API key"),
        (answer("404 Not Found", "{}"), "has no node 3"),
        (
            answer("500 Oops", "<html>\n broken"),
            "answered 500 Internal Server Error instead of a node's configuration: <html> broken",
        ),
        (answer("200 OK", "<html>"), "answered 200 OK instead"),
        (answer("302 Found\r\nlocation: https://new.example.com/", ""), "redirects to https://new.example.com/"),
        (answer("200 OK", r#"{"token": []}"#), "answered 200 OK instead"),
        (answer("200 OK", "{}"), "answered 200 OK instead"),
        (
            answer("200 OK", r#"{"token_id": "a", "token": "b", "api": {"port": 70000}}"#),
            "the configuration was not written",
        ),
        (String::new(), "cannot be reached"),
    ] {
        let (url, _served) = panel(response.clone());
        let ended = configure(&node, &url, &[]);
        assert_eq!(ended.code, 1, "{response}: {ended:?}");
        assert!(ended.err.contains(part), "{response}: {ended:?}");
        assert!(!ended.err.contains(KEY), "{ended:?}");
    }
    assert!(!node.folder.path().join("etc").exists());
}

#[test]
fn missing_and_invalid_values_are_errors_without_a_terminal() {
    let node = Node::new();
    for (arguments, part) in [
        (&[][..], "--panel-url: is missing"),
        (&["--panel-url", "https://panel.example.com/admin"], "--panel-url: "),
        (&["--panel-url", "https://panel.example.com", "-t", "short"], "--token: expected an API key"),
        (&["-p", "https://panel.example.com", "-t", KEY, "-n", "three"], "--node: "),
    ] {
        let mut command = node.bare_command();
        let ended = Ended::of(command.args(["configure", "--config", "x.yml"]).args(arguments).output().unwrap());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(part), "{ended:?}");
    }
}
