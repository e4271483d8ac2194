//! Messages of browsers. Pure. Source: websocket, "Framing" and "Inbound events".

use serde::Deserialize;

/// A message, as it comes.
#[derive(Debug, Deserialize)]
struct Raw {
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    args: Option<Vec<Option<String>>>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The name of its event.
    pub event: String,
    /// What it is about.
    pub kind: Kind,
    /// Its arguments, without anything between them.
    pub argument: String,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A token, for the following messages and for events.
    Auth,
    /// A power action.
    SetState,
    /// A line for the server's terminal.
    SendCommand,
    /// A request for the last lines of the log.
    SendLogs,
    /// A request for the resources in use.
    SendStats,
    /// Something that this version does not know.
    Unknown,
}

impl Inbound {
    /// Reads a message; `None` for what is no message, which is ignored.
    pub fn read(text: &str) -> Option<Self> {
        // An array would be read as the values of the fields.
        let object = text.trim_ascii_start().starts_with('{').then_some(text)?;
        let Raw { event, args } = serde_json::from_str(object).ok()?;
        let event = event.unwrap_or_default();
        let kind = match event.as_str() {
            "auth" => Kind::Auth,
            "set state" => Kind::SetState,
            "send command" => Kind::SendCommand,
            "send logs" => Kind::SendLogs,
            "send stats" => Kind::SendStats,
            _ => Kind::Unknown,
        };
        let argument = args.into_iter().flatten().flatten().collect();
        Some(Self { event, kind, argument })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(Kind, String)> {
        Inbound::read(text).map(|message| (message.kind, message.argument))
    }

    #[test]
    fn messages_are_read_as_wings_reads_them() {
        for (text, kind, argument) in [
            (r#"{"event":"auth","args":["a","b"]}"#, Kind::Auth, "ab"),
            (r#"{"event":"send logs","args":[null]}"#, Kind::SendLogs, ""),
            (r#"{"event":"send stats","args":null}"#, Kind::SendStats, ""),
            (r#"{"event":"send stats"}"#, Kind::SendStats, ""),
            (r#"{"event":"set state","args":["ki",null,"ll"],"more":{}}"#, Kind::SetState, "kill"),
            (r#"{"event":"send command","args":["say \u00fc"]}"#, Kind::SendCommand, "say ü"),
            (r#"{"event":"Auth"}"#, Kind::Unknown, ""),
            (r#"{"event":null}"#, Kind::Unknown, ""),
            ("{}", Kind::Unknown, ""),
        ] {
            assert_eq!(read(text), Some((kind, argument.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_ignored() {
        for text in [
            "",
            "{",
            "null",
            "[]",
            "5",
            "\"text\"",
            r#"{"event": 5}"#,
            r#"{"event": "send command", "args": "no list"}"#,
            r#"{"event": "set state", "args": [5]}"#,
            r#"{"event": "set state", "args": {}}"#,
            r#"{"event": "a"} {"event": "b"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_ignored(text in "\\PC*") {
            let _ = Inbound::read(&text);
        }
    }
}
