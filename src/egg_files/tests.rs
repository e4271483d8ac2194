//! Tables for each parser, and the published eggs.

use serde_json::{Value, json};

use super::*;
use crate::model::{ManagedBy, Manifest};

pub(super) fn placeholders() -> Placeholders {
    let manifest = Manifest::new("550e8400-e29b-41d4-a716-446655440000".parse().unwrap(), ManagedBy::Panel);
    Placeholders::new(&manifest, "172.18.0.1".into())
}

pub(super) fn replacement(key: &str, value: &Value) -> Value {
    json!({"match": key, "replace_with": value})
}

/// Replacements as the panel sends them.
pub(super) fn prepare(replacements: Value) -> Vec<Replacement> {
    let replacements: Vec<_> = serde_json::from_value(replacements).unwrap();
    Replacement::prepare(&replacements, &placeholders()).0
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<Replacement> {
    prepare(pairs.iter().map(|(key, value)| replacement(key, &json!(value))).collect())
}

/// Applies replacements, and checks that a second application changes nothing.
fn edited_by(parser: Parser, text: &str, replacements: &[Replacement]) -> String {
    let first = apply(parser, text.as_bytes(), replacements).unwrap();
    let text = first.bytes.unwrap_or_else(|| text.as_bytes().to_vec());
    assert_eq!(
        apply(parser, &text, replacements).unwrap().bytes,
        None,
        "second time on {:?}",
        String::from_utf8_lossy(&text)
    );
    String::from_utf8(text).unwrap()
}

fn edited(parser: Parser, text: &str, replacements: &[(&str, &str)]) -> String {
    edited_by(parser, text, &pairs(replacements))
}

#[test]
fn lines_are_replaced_by_their_beginning() {
    let file = |text, replacements: &[(&str, &str)]| edited(Parser::File, text, replacements);
    assert_eq!(file("port=1\n  port=3\nportal=9", &[("port=", "port=25565")]), "port=25565\n  port=3\nportal=9");
    assert_eq!(file("port=1\n", &[("port", "A"), ("port=", "B")]), "AB\n");
    assert_eq!(file("motd=x\r\nb\r\n", &[("motd=", "motd=§aHi\nNL")]), "motd=§aHi\r\nNL\r\nb\r\n");
    assert_eq!(file("a\nb", &[("", "x")]), "x\nx");
    assert_eq!(file("\u{feff}port=1\n", &[("port=", "port={{config.docker.interface}}")]), "\u{feff}port=172.18.0.1\n");
    assert_eq!(file("", &[("port=", "port=1")]), "");
    let latin1 = b"motd=\xe9\nport=1\n";
    let bytes = apply(Parser::File, latin1, &pairs(&[("port=", "port=2")])).unwrap().bytes.unwrap();
    assert_eq!(bytes, b"motd=\xe9\nport=2\n");
}

#[test]
fn properties_keep_comments_and_order() {
    let text = "#Minecraft server properties\n#Tue\n\nserver-port=25565\n! mid comment\nserver-ip : 0.0.0.0\n\
                motd=A \\u00a7b test\nlevel-name = world  \nempty=\nspaced key=1\nresource-pack=https\\://x/y?a\\=1";
    let replacements =
        [("server-port", "25566"), ("server-ip", "{{config.docker.interface}}"), ("query.port", "25566")];
    assert_eq!(
        edited(Parser::Properties, text, &replacements),
        "#Minecraft server properties\n#Tue\n\nserver-port=25566\n! mid comment\nserver-ip=172.18.0.1\n\
         motd=A \\u00a7b test\nlevel-name=world  \nempty=\nspaced=key=1\nresource-pack=https\\://x/y?a\\=1\nquery.port=25566\n"
    );
}

#[test]
fn properties_of_all_kinds() {
    let properties = |text, replacements: &[(&str, &str)]| edited(Parser::Properties, text, replacements);
    for (text, replacements, expected) in [
        ("", &[("server-ip", ""), ("server-port", "1")][..], "server-ip=\nserver-port=1\n"),
        ("a=1\r\nb=2\r\n", &[("a", "2"), ("c", "3")], "a=2\r\nb=2\r\nc=3\r\n"),
        ("a=1", &[("b", "2")], "a=1\nb=2\n"),
        // The same value is no change, however it is written.
        ("a : 1\n", &[("a", "1")], "a : 1\n"),
        ("a=\\u00e9\n", &[("a", "é")], "a=\\u00e9\n"),
        ("a=1,\\\n   2\nb=3\n", &[("b", "4")], "a=1,\\\n   2\nb=4\n"),
        ("a=1,\\\n   2\nb=3\n", &[("a", "4")], "a=4\nb=3\n"),
        ("a=1\nb=2\na=3\n", &[("a", "4")], "a=4\nb=2\na=4\n"),
        ("a\\ b=1\n", &[("a b", "2")], "a\\ b=2\n"),
        ("x=1\n", &[("a b", " \\\"é😀\n")], "x=1\na\\ b=\\ \\\\\"\\u00e9\\ud83d\\ude00\\n\n"),
        ("\u{feff}a=1\n", &[("a", "2")], "\u{feff}a=2\n"),
        ("a=1\\", &[("b", "2")], "a=1\nb=2\n"),
        // A reference of a user stays one.
        ("motd=${TOKEN}\na=1\n", &[("a", "2")], "motd=${TOKEN}\na=2\n"),
    ] {
        assert_eq!(properties(text, replacements), expected, "{text:?}");
    }
    let conditional = prepare(json!([
        {"match": "a", "if_value": "1", "replace_with": "9"}, {"match": "b", "if_value": "1", "replace_with": "9"},
        {"match": "c", "if_value": "1", "replace_with": "9"},
    ]));
    assert_eq!(edited_by(Parser::Properties, "a=1\nb=2\n", &conditional), "a=9\nb=2\n");
    let latin1 = b"motd=\xe9\na=1\n";
    let bytes = apply(Parser::Properties, latin1, &pairs(&[("a", "2")])).unwrap().bytes.unwrap();
    assert_eq!(bytes, b"motd=\xe9\na=2\n");
}

#[test]
fn ini_keeps_comments_and_layout() {
    let text =
        "; top\ntop=1\n[sec]\n; note\nkey=val ; why\nk2 = \"quoted\"\nk3: colon\n; about other\n\n[other.sec]\na=b\n";
    let replacements = [
        ("top", "2"),
        ("sec.key", "new"),
        ("sec.newk", "x"),
        ("newsec.k", "v"),
        ("[other.sec].a", "c"),
        ("sec.a.b.c", "deep"),
        ("sec.k2", "two words"),
    ];
    assert_eq!(
        edited(Parser::Ini, text, &replacements),
        "; top\ntop=2\n[sec]\n; note\nkey=new ; why\nk2 = \"two words\"\nk3: colon\nnewk=x\na.b.c=deep\n; about other\n\n\
         [other.sec]\na=c\n\n[newsec]\nk=v\n"
    );
}

#[test]
fn ini_of_all_kinds() {
    for (text, replacements, expected) in [
        ("", &[("a", "1"), ("s.b", "2")][..], "a = 1\n\n[s]\nb = 2\n"),
        ("; head\n\n[s]\nx=y\n", &[("a", "1")], "; head\na=1\n\n[s]\nx=y\n"),
        ("[s]\r\nx=y\r\n", &[("s.x", "z"), ("s.a", "1")], "[s]\r\nx=z\r\na=1\r\n"),
        ("[s]\nx=y", &[("s.a", "1")], "[s]\nx=y\na=1\n"),
        ("[s]\nnot a pair\nx=y\n", &[("s.x", "z")], "[s]\nnot a pair\nx=z\n"),
        (
            "[/Script/Engine.GameSession]\nMaxPlayers=1\n",
            &[("[/Script/Engine.GameSession].MaxPlayers", "50")],
            "[/Script/Engine.GameSession]\nMaxPlayers=50\n",
        ),
        ("[s]\nx=1\n[t]\ny=1\n[s]\nz=1\n", &[("s.z", "2"), ("s.w", "3")], "[s]\nx=1\nw=3\n[t]\ny=1\n[s]\nz=2\n"),
        ("y=a#b\n", &[("y", "c")], "y=c\n"),
        ("c = #ff0000\n", &[("c", "#00ff00")], "c = #00ff00\n"),
        ("a=1\n", &[("a", "x ;y"), ("b", " z ")], "a=\"x ;y\"\nb=\" z \"\n"),
        ("a=1\n", &[("a", "x\n[admin]"), ("b;\nc", "x"), ("d", "1")], "a=1\nd=1\n"),
        ("k =\n", &[("k", "v")], "k =v\n"),
        ("a = 1 # x\nb = 1 #x\n", &[("a", ""), ("b", "")], "a =  # x\nb = \n"),
    ] {
        assert_eq!(edited(Parser::Ini, text, replacements), expected, "{text:?}");
    }
    let conditional = prepare(json!([{"match": "a", "if_value": "other", "replace_with": "9"}]));
    assert_eq!(edited_by(Parser::Ini, "a=1\n", &conditional), "a=9\n", "as with Wings, without effect");
}

#[test]
fn json_keeps_layout_and_types() {
    let text = "{\n    \"port\": 1,  \"s\":\"x\",\n    \"b\": false, \"n\": null,\n    \"arr\": [1, 2, 3],\n    \"o\": {\"k\": \"v\"},\n    \
                \"f\": 1.50, \"big\": 12345678901234567890123\n}\n";
    let replacements = prepare(json!([
        {"match": "port", "replace_with": "25565"}, {"match": "s", "replace_with": "25565"}, {"match": "b", "replace_with": "true"},
        {"match": "n", "replace_with": "5"}, {"match": "o.k", "replace_with": "{{config.docker.interface}}"},
        {"match": "new.deep.key", "replace_with": "1"}, {"match": "newb", "replace_with": true}, {"match": "newn", "replace_with": 7},
        {"match": "arr.1", "replace_with": "9"}, {"match": "o.l", "replace_with": "w"},
    ]));
    assert_eq!(
        edited_by(Parser::Json, text, &replacements),
        "{\n    \"port\": 25565,  \"s\":\"25565\",\n    \"b\": true, \"n\": \"5\",\n    \"arr\": [1, 9, 3],\n    \"o\": {\"k\": \
         \"172.18.0.1\", \"l\": \"w\"},\n    \"f\": 1.50, \"big\": 12345678901234567890123,\n    \"new\": {\n        \"deep\": {\n            \
         \"key\": \"1\"\n        }\n    },\n    \"newb\": true,\n    \"newn\": \"7\"\n}\n"
    );
}

#[test]
fn json_of_all_kinds() {
    for (text, replacements, expected) in [
        ("", &[("a.b", "1")][..], "{\n  \"a\": {\n    \"b\": \"1\"\n  }\n}\n"),
        ("{\"a\":1}", &[("b", "2"), ("c.d", "x")], "{\"a\":1,\"b\":\"2\",\"c\":{\"d\":\"x\"}}"),
        ("{}", &[("b", "2")], "{\n  \"b\": \"2\"\n}"),
        ("{\r\n\t\"a\": 1\r\n}\r\n", &[("b", "2")], "{\r\n\t\"a\": 1,\r\n\t\"b\": \"2\"\r\n}\r\n"),
        ("\u{feff}{\"a\": 1}", &[("a", "2")], "\u{feff}{\"a\": 2}"),
        ("{\"port\":1}", &[("port", "127.0.0.1")], "{\"port\":\"127.0.0.1\"}"),
        ("{\"port\":1}", &[("port", "007")], "{\"port\":\"007\"}"),
        ("{\"b\":true}", &[("b", "maybe")], "{\"b\":\"maybe\"}"),
        ("{\"a\":5}", &[("a.b", "7")], "{\"a\":{\"b\":\"7\"}}"),
        ("{\"l\":[1]}", &[("l.3", "x"), ("l.-1", "y")], "{\"l\":[1,null,null,\"x\",\"y\"]}"),
        (
            "{\"l\":[{\"h\":\"a\"}]}",
            &[("l[0].h", "b"), ("m[0].h", "c")],
            "{\"l\":[{\"h\":\"b\"}],\"m\":[{\"h\":\"c\"}]}",
        ),
        ("{\"x.y\":1}", &[("x\\.y", "2")], "{\"x.y\":2}"),
        (
            "{\"a\":{\"x\":{\"b\":{\"y\":{\"c\":1},\"z\":{\"c\":1}}}}}",
            &[("a.*.b.*.c", "7")],
            "{\"a\":{\"x\":{\"b\":{\"y\":{\"c\":7},\"z\":{\"c\":7}}}}}",
        ),
        (
            "{\"l\":[{\"n\":\"a\",\"p\":1},{\"n\":\"b\",\"p\":1}]}",
            &[("l.#(n==\"b\").p", "2")],
            "{\"l\":[{\"n\":\"a\",\"p\":1},{\"n\":\"b\",\"p\":2}]}",
        ),
        ("{\"l\":[{\"p\":1},{\"q\":1}]}", &[("l.#.p", "2"), ("none.*.p", "1")], "{\"l\":[{\"p\":2},{\"q\":1}]}"),
        ("{\"a\":1}", &[("l.4000000000", "x"), ("a..b", "x")], "{\"a\":1}"),
    ] {
        let replacements = pairs(replacements);
        let first = apply(Parser::Json, text.as_bytes(), &replacements).unwrap().bytes;
        let first = first.unwrap_or_else(|| text.as_bytes().to_vec());
        assert_eq!(String::from_utf8(first).unwrap(), expected, "{text:?}");
    }
    for text in ["{ this is no json", "{\"a\": 1} x", "// c\n{}", "{\"a\": 1,}", "\u{feff}\u{feff}{}"] {
        assert!(apply(Parser::Json, text.as_bytes(), &pairs(&[("a", "1")])).is_err(), "{text:?}");
    }
    let deep = "[".repeat(1_000_000);
    assert!(apply(Parser::Json, deep.as_bytes(), &pairs(&[("0", "1")])).is_err());
}

#[test]
fn conditions_of_json() {
    let text = r#"{"servers":{"lobby":{"address":"127.0.0.1:25566"},"ext":{"address":"1.2.3.4:1"}},"a":"tcp://0.0.0.0:25565","n":2}"#;
    let replacements = prepare(json!([
        {"match": "servers.*.address", "if_value": "regex:^(127\\.0\\.0\\.1|localhost)", "replace_with": "{{config.docker.interface}}"},
        {"match": "a", "if_value": "regex:^(tcp://.*:)\\d+$", "replace_with": "${1}9999"},
        {"match": "n", "if_value": "2", "replace_with": "3"},
        {"match": "none", "if_value": "", "replace_with": "3"},
        {"match": "a", "if_value": "regex:(", "replace_with": "3"},
    ]));
    assert_eq!(replacements.len(), 4, "the one with the invalid expression is left out");
    assert_eq!(
        edited_by(Parser::Json, text, &replacements),
        r#"{"servers":{"lobby":{"address":"172.18.0.1"},"ext":{"address":"1.2.3.4:1"}},"a":"tcp://0.0.0.0:9999","n":3}"#
            .replace("\"172.18.0.1\"", "\"172.18.0.1:25566\"")
    );
}

#[test]
fn yaml_keeps_comments_and_order() {
    let text = "# top comment\nport: 25565 # c\nname: 'q'\nlist:\n- host: 0.0.0.0:1\n  x: y\nmap: {z: 1, a: 2}\nbool2: true\n\
                date: 2020-01-02\nhex: 0x10\nbig: 123456789012345678\nml: |\n  a\n  b\n8080: x # port as a key\n";
    let replacements = [
        ("port", "25566"),
        ("list[0].host", "0.0.0.0:2"),
        ("bool2", "false"),
        ("new.k", "{{config.docker.interface}}"),
        ("name", "123"),
        ("8080", "z"),
    ];
    assert_eq!(
        edited(Parser::Yaml, text, &replacements),
        "# top comment\nport: 25566 # c\nname: '123'\nlist:\n- host: '0.0.0.0:2'\n  x: y\nmap: {z: 1, a: 2}\nbool2: false\n\
         date: 2020-01-02\nhex: 0x10\nbig: 123456789012345678\nml: |\n  a\n  b\n8080: z # port as a key\nnew:\n  k: 172.18.0.1\n"
    );
    assert_eq!(edited(Parser::Yaml, "", &[("a.b", "c")]), "a:\n  b: c\n");
    assert_eq!(edited(Parser::Yaml, "# only a comment\n", &[("a", "c")]), "# only a comment\na: c\n");
    assert_eq!(edited(Parser::Yaml, "a: 1\r\nb: 2", &[("b", "3")]), "a: 1\r\nb: 3");
    for text in ["a: [1,\n", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n", "just text\n"] {
        assert!(apply(Parser::Yaml, text.as_bytes(), &pairs(&[("a", "9")])).is_err(), "{text:?}");
    }
}

#[test]
fn xml_keeps_comments_and_layout() {
    let text = "<?xml version=\"1.0\"?>\n<!-- head -->\n<Root>\n    <Prop value=\"x\" other='y'>t</Prop>\n    <!-- inside -->\n    <Multi><I>1</I><I>2</I>\
                </Multi>\n</Root>\n";
    let replacements = [
        ("Root.Prop", "[value='new']"),
        ("Root.New.Deep", "a < b"),
        ("Root.Multi.*", "9"),
        ("Root.N", "5"),
        ("Other.N", "5"),
    ];
    assert_eq!(
        edited(Parser::Xml, text, &replacements),
        "<?xml version=\"1.0\"?>\n<!-- head -->\n<Root>\n    <Prop value=\"new\" other='y'>t</Prop>\n    <!-- inside -->\n    <Multi><I>9</I><I>9</I>\
         </Multi>\n    <New>\n        <Deep>a &lt; b</Deep>\n    </New>\n    <N>5</N>\n</Root>\n"
    );
}

#[test]
fn xml_of_all_kinds() {
    for (text, replacements, expected) in [
        (
            "",
            &[("Root.A", "1"), ("Root.B", "[x='y']")][..],
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Root>\n  <A>1</A>\n  <B x=\"y\"/>\n</Root>\n",
        ),
        (
            "<S><p name=\"a\" value=\"1\"/><p name=\"b\" value=\"2\"/></S>",
            &[("S.p[@name='b']", "[value='22']")],
            "<S><p name=\"a\" value=\"1\"/><p name=\"b\" value=\"22\"/></S>",
        ),
        (
            "<S><p name=\"a\"/></S>",
            &[("S.p[@name='Missing']", "[value='1']"), ("S.p[@name='a']", "[value='&\"']")],
            "<S><p name=\"a\" value=\"&amp;&quot;\"/></S>",
        ),
        ("<S><p v='1' /></S>", &[("S.p", "[w='2']")], "<S><p v='1' w=\"2\" /></S>"),
        ("<S><p/></S>", &[("S.p", "x")], "<S><p>x</p></S>"),
        ("<S><p><![CDATA[a<b]]></p></S>", &[("S.p", "a<b")], "<S><p><![CDATA[a<b]]></p></S>"),
        ("<S><p><![CDATA[a<b]]></p></S>", &[("S.p", "c")], "<S><p>c</p></S>"),
        ("<S><p>a&amp;b</p></S>", &[("S.p", "a&b")], "<S><p>a&amp;b</p></S>"),
        ("<S><p>1</p><p>2</p></S>", &[("S.p[2]", "9")], "<S><p>1</p><p>9</p></S>"),
        ("<S><p><n>a</n></p><p><n>b</n></p></S>", &[("S.p[n='b'].n", "9")], "<S><p><n>a</n></p><p><n>9</n></p></S>"),
        ("<S>\r\n\t<p/>\r\n</S>", &[("S.q", "1")], "<S>\r\n\t<p/>\r\n\t<q>1</q>\r\n</S>"),
        ("<S>\n  <p/>\n</S>", &[("*", " x ")], "<S>x\n  <p/>\n</S>"),
        ("<S>\n&amp; &amp;\n<p/></S>", &[("S", "a & b")], "<S>\na &amp; b\n<p/></S>"),
        ("<S/>", &[("S.a b", "1"), ("S.q", "\u{1}")], "<S/>"),
        ("<S/>", &[("T.a", "1")], "<S/>"),
    ] {
        assert_eq!(edited(Parser::Xml, text, replacements), expected, "{text:?}");
    }
    for text in ["<a>", "<a></b>", "<a/><b/>", "</a>", "text", "<a x=1/>"] {
        assert!(apply(Parser::Xml, text.as_bytes(), &pairs(&[("a", "1")])).is_err(), "{text:?}");
    }
}

#[test]
fn toml_keeps_comments_and_order() {
    let text = "# head\ntitle = \"x\" # t\nport = 1 # p\nf = 1.0\nd = 1979-05-27T07:32:00Z # d\nld = 1979-05-27\n\n[sec] # s\nk = 'v'\narr = [\n  1, # \
                one\n  2,\n]\ninline = { a = 1 }\n\n[[t]]\na=1\n";
    let replacements = [
        ("port", "25565"),
        ("f", "2"),
        ("d", "2020-01-01T00:00:00Z"),
        ("sec.k", "{{config.docker.interface}}"),
        ("sec.new", "5"),
        ("t.0.a", "2"),
        ("sec.arr[0]", "7"),
        ("sec.inline.b", "x"),
        ("fresh.deep.k", "v"),
    ];
    assert_eq!(
        edited(Parser::Toml, text, &replacements),
        "# head\ntitle = \"x\" # t\nport = 25565 # p\nf = 2.0\nd = 2020-01-01T00:00:00Z # d\nld = 1979-05-27\n\n[sec] # s\nk = \"172.18.0.1\"\narr = [\n  7, \
         # one\n  2,\n]\ninline = { a = 1 , b = \"x\" }\nnew = \"5\"\n\n[[t]]\na=2\n\n[fresh.deep]\nk = \"v\"\n"
    );
    assert_eq!(edited(Parser::Toml, "", &[("a.b", "c")]), "[a]\nb = \"c\"\n");
    assert_eq!(edited(Parser::Toml, "a = 1\r\nb = 2 # x", &[("a", "3")]), "a = 3\r\nb = 2 # x");
    assert!(apply(Parser::Toml, b"a = \n", &pairs(&[("a", "9")])).is_err());
}

#[test]
fn files_that_are_no_text_are_rejected() {
    for parser in [Parser::File, Parser::Properties, Parser::Ini, Parser::Json] {
        let utf16 = [b"\xff\xfe".as_slice(), b"a\0=\x001\x00"].concat();
        assert_eq!(apply(parser, &utf16, &pairs(&[("a", "2")])), Err(ParseError::Binary));
    }
    for parser in [Parser::Json, Parser::Yaml, Parser::Xml, Parser::Toml] {
        assert_eq!(apply(parser, b"\xff", &pairs(&[("a", "2")])), Err(ParseError::NotUtf8));
    }
    let long = vec![b' '; MAX_BYTES + 1];
    assert_eq!(apply(Parser::File, &long, &[]), Err(ParseError::TooLong(MAX_BYTES + 1)));
}

#[test]
fn a_hostile_file_cannot_make_a_value_fill_the_memory() {
    let long = "x".repeat(4096);
    let lines = b"a=1\n".repeat(100_000);
    let json = format!("[{}1]", "1,".repeat(100_000));
    let xml = format!("<a>{}</a>", "<b/>".repeat(100_000));
    for (parser, bytes, key) in [
        (Parser::File, lines.as_slice(), "a="),
        (Parser::Properties, &lines, "a"),
        (Parser::Ini, &lines, "a"),
        (Parser::Xml, xml.as_bytes(), "a.b"),
    ] {
        assert!(matches!(apply(parser, bytes, &pairs(&[(key, &long)])), Err(ParseError::TooLong(_))), "{parser:?}");
    }
    for key in ["*", "*.b.c.d.e"] {
        let edited = apply(Parser::Json, json.as_bytes(), &pairs(&[(key, &long)]));
        assert!(matches!(edited, Err(ParseError::TooLong(_))) || edited.is_ok_and(|edited| edited.omitted.len() == 1));
    }
    let attributes = (0..2000).map(|number| format!(" a{number}='1'")).collect::<String>();
    assert!(apply(Parser::Xml, format!("<a{attributes}/>").as_bytes(), &pairs(&[("a", "1")])).is_err());
    let keys = (0..300_000).map(|number| format!("{number}=\n")).collect::<String>();
    assert!(apply(Parser::Properties, keys.as_bytes(), &pairs(&[("a", "1")])).is_err());
}

#[test]
fn the_published_eggs() {
    let minecraft = [("query.port", "25709"), ("server-ip", ""), ("server-port", "25709")];
    let before = "#Minecraft server properties\n#Mon Nov 23 00:00:00 UTC 2026\nenable-jmx-monitoring=false\nserver-port=25565\n\
                  server-ip=1.2.3.4\nmotd=A \\u00A7cRed Server\nlevel-seed=\nquery.port=25565\n";
    let after = before.replace("25565", "25709").replace("server-ip=1.2.3.4", "server-ip=");
    assert_eq!(edited(Parser::Properties, before, &minecraft), after);

    let bungeecord = prepare(json!([
        {"match": "listeners[0].query_port", "replace_with": "25709"},
        {"match": "listeners[0].host", "replace_with": "0.0.0.0:25709"},
        {"match": "servers.*.address", "if_value": "regex:^(127\\.0\\.0\\.1|localhost)(:\\d{1,5})?$",
         "replace_with": "{{config.docker.interface}}$2"},
    ]));
    let before = "listeners:\n- query_port: 25577\n  host: 0.0.0.0:25577\nservers:\n  lobby:\n    address: localhost:25565 # ours\n  far:\n    \
                  address: 10.1.2.3:25565\n";
    assert_eq!(
        edited_by(Parser::Yaml, before, &bungeecord),
        "listeners:\n- query_port: 25709\n  host: '0.0.0.0:25709'\nservers:\n  lobby:\n    address: '172.18.0.1:25565' # ours\n  far:\n    \
         address: 10.1.2.3:25565\n"
    );
    assert_eq!(
        edited_by(Parser::Yaml, "", &bungeecord),
        "listeners:\n- query_port: '25709'\n  host: '0.0.0.0:25709'\n"
    );

    let mumble = [
        ("database", "/home/container/murmur.sqlite"),
        ("host", ""),
        ("logfile", "/home/container/murmur.log"),
        ("port", "25709"),
        ("users", "100"),
    ];
    let before = "; Murmur configuration file.\n;\ndatabase=\n;dbDriver=QMYSQL\nice=\"tcp -h 127.0.0.1 -p 6502\"\nport=64738\n\n[Ice]\n\
                  Ice.Warn.UnknownProperties=1\n";
    assert_eq!(
        edited(Parser::Ini, before, &mumble),
        "; Murmur configuration file.\n;\ndatabase=/home/container/murmur.sqlite\n;dbDriver=QMYSQL\nice=\"tcp -h 127.0.0.1 -p 6502\"\nport=25709\nhost=\n\
         logfile=/home/container/murmur.log\nusers=100\n\n[Ice]\nIce.Warn.UnknownProperties=1\n"
    );
}

#[test]
fn a_hostile_layout_is_not_multiplied_and_a_message_is_short() {
    let blanks = " ".repeat(1 << 20);
    let values = pairs(&[("x.a", "1"), ("x.b", "2"), ("y.c", "3"), ("z", "4")]);
    for (parser, text) in [
        (Parser::Json, format!("{{\n{blanks}\"a\":1,\n{blanks}\"b\":{blanks}2}}")),
        (Parser::Json, format!("{{\"a\"{blanks}:1,{blanks}\"b\":2}}")),
        (Parser::Xml, format!("<x>\n{blanks}<q/>\n</x>")),
    ] {
        let edited = apply(parser, text.as_bytes(), &values).unwrap().bytes.unwrap();
        assert!(edited.len() < text.len() + 4096, "{parser:?}: {} of {}", edited.len(), text.len());
    }
    let name = "a".repeat(1 << 20);
    let error = apply(Parser::Xml, format!("<{name}></b>").as_bytes(), &values).unwrap_err().to_string();
    assert!(error.len() < 2000, "{}", error.len());
}

#[test]
fn a_file_in_which_a_key_is_there_twice_is_left_alone() {
    let values = pairs(&[("a.z", "5")]);
    for text in [r#"{"a":[1],"a":{"y":1}}"#, r#"{"a":{"x":1},"a":{"x":2}}"#] {
        let error = apply(Parser::Json, text.as_bytes(), &values).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }
}
