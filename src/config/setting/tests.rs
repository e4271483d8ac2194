//! What Go's `yaml.v2` makes of a text, as observed with it.

use std::path::Path;

use crate::config::ConfigFile;

fn read(text: &str) -> ConfigFile {
    ConfigFile::parse(Path::new("config.yml"), text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn warnings(text: &str) -> Vec<String> {
    let (_, report) = ConfigFile::read(text).unwrap();
    report.twice.into_iter().map(|problem| problem.key).collect()
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    for (text, port) in [
        ("1_420", 1420),
        ("0x10", 16),
        ("0X10", 16),
        ("0o17", 15),
        ("017", 15),
        ("0_17", 15),
        ("08", 8),
        ("0b11", 3),
        ("+80", 80),
        ("-1_0", -10),
        ("-0x10", -16),
        ("1_", 1),
        ("0", 0),
        ("-0", 0),
        ("8080.0", 8080),
        ("8080.9", 8080),
        ("-1.9", -1),
        ("1e3", 1000),
        ("1.9e3", 1900),
        ("!!int '5'", 5),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(read(&format!("api: {{port: {text}}}")).api.port, port, "{text}");
    }
    for text in ["1:30", "_1", "1e400", "0x1p4", "99999999999999999999", ".nan", ".inf", "true", "2001-01-01", "+-1"] {
        let faults = ConfigFile::read(&format!("api:\n  port: {text}\n")).unwrap_err();
        assert_eq!((faults.len(), faults[0].line, faults[0].path.as_deref()), (1, Some(2), Some("api.port")), "{text}");
    }
    for (text, multiplier) in [("1_0.5", 10.5), (".5", 0.5), ("2", 2.0), ("0x10", 16.0), ("1e1_0", 1e10), ("017", 15.0)]
    {
        let text = format!("docker: {{overhead: {{default_multiplier: {text}}}}}");
        assert_eq!(read(&text).docker.overhead.default_multiplier, multiplier, "{text}");
    }
}

#[test]
fn texts_are_read_as_they_are_spelled() {
    for text in ["0123", "1_000", "0x1F", "yes", "True", "2001-01-01", ".inf", "=", "12e5", "99999999999999999999999"] {
        assert_eq!(read(&format!("token: {text}\n")).token.expose(), text);
        assert_eq!(read(&format!("allowed_mounts: [{text}]\n")).allowed_mounts, [text]);
    }
}

#[test]
fn a_section_that_is_there_twice_is_merged_and_of_a_value_the_last_one_counts() {
    let text = "api: {port: 1, ssl: {cert: a}}\ndebug: true\nallowed_mounts: [a, b]\n\
                api: {host: x, ssl: {key: b}}\ndebug: false\nallowed_mounts: [c]\n";
    let file = read(text);
    assert_eq!((file.api.port, file.api.host.as_str(), file.debug), (1, "x", false));
    assert_eq!((file.api.ssl.cert.as_str(), file.api.ssl.key.as_str()), ("a", "b"));
    assert_eq!(file.allowed_mounts, ["c"]);
    assert_eq!(warnings(text), ["api", "debug", "allowed_mounts"]);
    assert_eq!(warnings("api: {port: 1, port: 2}"), ["api.port"]);
    let text = "docker: {registries: {a: {username: u}, b: {username: c}}}\ndocker: {registries: {a: {password: p}}}\n";
    let registries = read(text).docker.registries;
    assert_eq!((registries["a"].username.as_str(), registries["b"].username.as_str()), ("", "c"));
}

#[test]
fn merge_keys_apply_at_their_place() {
    for (text, port, host) in [
        ("x: &x {port: 5, host: h}\napi: {<<: *x, port: 6}\n", 6, "h"),
        ("x: &x {port: 5, host: h}\napi: {port: 6, <<: *x}\n", 5, "h"),
        ("x: &x {port: 5}\ny: &y {port: 6, host: h}\napi: {<<: [*x, *y]}\n", 5, "h"),
        ("x: &x {port: 5}\napi: {<<: *x, <<: {host: h}}\n", 5, "h"),
        ("api: {<<: {host: h, port: 5}}\n", 5, "h"),
        ("<<: {api: {host: h, port: 5}}\n", 5, "h"),
        ("x: &x {host: h}\ny: &y {<<: *x, port: 5}\napi:\n  <<:\t*y\n", 5, "h"),
    ] {
        let file = read(text);
        assert_eq!((file.api.port, file.api.host.as_str()), (port, host), "{text}");
    }
    let file = read("x: &x {ssl: {cert: c}}\napi: {ssl: {key: k}, <<: *x}\n");
    assert_eq!((file.api.ssl.cert.as_str(), file.api.ssl.key.as_str()), ("c", "k"));
    let file = read("x: &x {tag: a}\ndocker: {log_config: {config: {<<: *x, k: v}}}\n");
    assert_eq!(file.docker.log_config.options.len(), 2);
    assert!(ConfigFile::read("api: {<<: 5}\n").is_err());
}

#[test]
fn texts_that_only_some_parsers_accept() {
    for text in [
        "app_name:\ta\n",
        "app_name:\t\ta\n",
        "app_name:\t'a'\t# c\n",
        "\"app_name\":\ta\n",
        "{\"app_name\":\t\"a\"}\n",
        "{\n\t\"app_name\": \"a\",\n\t\"debug\": true\n}\n",
        "allowed_mounts: [\nb,\nc\n]\napp_name: a\n",
        "api: {\nport: 5,# c\n}\napp_name: a\n",
        "api: {port: 5}#c\napp_name: 'a'#c\n",
        "token: \"b\nc\"\napp_name: a\n",
        "x: &x app_name\n*x : a\n",
        "app_name: a\n---\napp_name: b\n",
        "app_name: a\n...\n%%% [\n",
        "app_name: !!str a\n",
        "app_name: !foo a\n",
        "? app_name\n: a\n",
        "\u{feff}app_name: a\r\ndebug: true\r\n",
    ] {
        assert_eq!(read(text).app_name, "a", "{text:?}");
    }
}

#[test]
fn all_mistakes_are_listed() {
    let text = "api:\n  port: http\n  ssl: 5\nsystem:\n  username: [a]\nalula: {sokcet: x}\ndebug: maybe\n";
    let faults = ConfigFile::read(text).unwrap_err();
    let paths: Vec<_> = faults.iter().map(|fault| (fault.line.unwrap(), fault.path.clone().unwrap())).collect();
    let expected = [(2, "api.port"), (3, "api.ssl"), (5, "system.username"), (6, "alula.sokcet"), (7, "debug")];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}
