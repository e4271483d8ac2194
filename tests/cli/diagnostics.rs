//! `alula diagnostics`, with a daemon, without one, and with a broken configuration.

use std::fs;

use crate::{Daemon, Node};

#[test]
fn a_report_is_printed_with_a_daemon_and_without_one() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    let report = node.ok(&["diagnostics"]).out;
    assert!(report.contains("Root Directory: ") && report.contains("EngineReachable=False"), "{report}");
    assert!(report.contains("Servers: 2\n") && report.contains("daemon started"), "{report}");
    let json = node.json(&["diagnostics", "--no-logs"]);
    let sections = json["sections"].as_array().unwrap();
    assert_eq!(
        (&sections[0]["title"], sections.last().unwrap()["lines"][0].as_str()),
        (&"Versions".into(), Some("Logs redacted."))
    );
    daemon.end();

    let report = node.ok(&["diagnostics", "--log-lines", "1"]).out;
    assert!(report.contains("No daemon runs.\n") && report.contains("/nonexistent/docker.sock"), "{report}");
    assert!(!report.contains("daemon started"), "{report}");
    for lines in ["0", "501", "many"] {
        assert_eq!(node.run(&["diagnostics", "--log-lines", lines]).code, 2, "{lines}");
    }
}

#[test]
fn a_report_with_a_broken_configuration_does_not_quote_it() {
    let node = Node::new();
    fs::create_dir_all(node.root()).unwrap();
    fs::write(node.root().join("config.yml"), "token: [s3cret\nsystem: {root_directory: .}\n").unwrap();
    let report = node.ok(&["diagnostics"]).out;
    assert!(
        report.contains("config.yml is not valid; the first error is in line ") && report.contains("alula validate"),
        "{report}"
    );
    assert!(report.contains("| Versions\n") && !report.contains("s3cret"), "{report}");
}
