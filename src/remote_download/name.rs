//! The name of a downloaded file.

use url::Url;

/// The name in a `Content-Disposition` header, without any directories.
pub(super) fn from_header(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let mut plain = None;
    for (key, value) in parameters(text) {
        match key.as_str() {
            // Takes precedence. Source: RFC 6266, 4.3.
            "filename*" => {
                if let Some(name) = extended(&value).and_then(|name| last_part(&name)) {
                    return Some(name);
                }
            }
            "filename" => plain = plain.or_else(|| last_part(&value)),
            _ => {}
        }
    }
    plain
}

/// The last part of a URL's path.
pub(super) fn from_url(url: &Url) -> Option<String> {
    let last = url.path_segments()?.next_back()?;
    last_part(&String::from_utf8(percent_decoded(last)?).ok()?)
}

/// The part after the last slash or backslash, if it can be a file's name.
fn last_part(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?.trim();
    (!name.is_empty() && name != "." && name != ".." && !name.contains('\0')).then(|| name.to_owned())
}

/// The parameters of a header, keys in lower case, values without quotes.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once(';') {
        let Some((key, value)) = after.split_once('=') else {
            break;
        };
        let value = value.trim_start();
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        found.push((key.trim().to_ascii_lowercase(), value));
        rest = left;
    }
    found
}

/// The text up to the closing quote, and the rest after it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            other => text.push(other),
        }
    }
    (text, "")
}

/// A value such as `UTF-8''na%C3%AFve.txt`. Source: RFC 8187.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    let bytes = percent_decoded(encoded)?;
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(bytes.into_iter().map(char::from).collect()),
        _ => None,
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_headers() {
        for (header, name) in [
            ("attachment; filename=plain.jar", Some("plain.jar")),
            ("attachment; filename=\"two words.jar\"; size=5", Some("two words.jar")),
            ("attachment; FileName = \"a\\\"b.jar\"", Some("a\"b.jar")),
            ("attachment; filename=old.jar; filename*=UTF-8''na%C3%AFve.txt", Some("naïve.txt")),
            ("attachment; filename*=ISO-8859-1'en'na%EFve.txt", Some("naïve.txt")),
            ("attachment; filename*=UTF-8''%FF; filename=fallback", Some("fallback")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"c:\\x\\y.txt\"", Some("c:xy.txt")),
            ("attachment; filename=\"a;b.txt\"", Some("a;b.txt")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"\"", None),
            ("inline", None),
            ("filename=x", None),
            ("attachment; filename=\"open", Some("open")),
        ] {
            assert_eq!(from_header(header.as_bytes()).as_deref(), name, "{header}");
        }
    }

    #[test]
    fn names_in_urls() {
        for (url, name) in [
            ("http://example.com/a/b.jar?c=d#e", Some("b.jar")),
            ("http://example.com/two%20words.jar", Some("two words.jar")),
            ("http://example.com/a%2Fb.jar", Some("b.jar")),
            ("http://example.com/", None),
            ("http://example.com", None),
            ("http://example.com/x/..", None),
            ("http://example.com/%00", None),
        ] {
            assert_eq!(from_url(&url.parse().unwrap()).as_deref(), name, "{url}");
        }
    }
}
