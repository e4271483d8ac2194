//! The types of files, by their content. Source: `filesystem.md` § 2.
//!
//! What a file's first bytes were recognised as is kept, so that a listing reads only the files that have changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::files::tree::{Entry, EntryKind};

/// The bytes that the type depends on.
pub const HEAD: usize = 3072;

/// Types that are remembered. When there are more, all are dropped.
const REMEMBERED: usize = 1 << 15;

/// The type of a directory.
const DIRECTORY: &str = "inode/directory";
/// The type of what is not recognised.
const BINARY: &str = "application/octet-stream";
/// The type of text.
const TEXT: &str = "text/plain; charset=utf-8";

/// Recognises types.
#[derive(Default)]
pub struct MimeTypes {
    known: Mutex<HashMap<(u64, u64), Known>>,
}

/// The type of a file that has not changed since.
#[derive(PartialEq)]
struct Version {
    changed: SystemTime,
    size: u64,
}

struct Known {
    version: Version,
    mime: &'static str,
}

impl MimeTypes {
    /// The type of an entry; `head` reads its first bytes.
    pub fn of(&self, entry: &Entry, head: impl FnOnce(&mut [u8]) -> Option<usize>) -> &'static str {
        match entry.kind {
            EntryKind::Directory => return DIRECTORY,
            EntryKind::File if entry.size == 0 => return "text/plain",
            EntryKind::File => {}
            _ => return BINARY,
        }
        let key = (entry.device, entry.inode);
        let version = Version { changed: entry.changed, size: entry.size };
        if let Some(known) = self.lock().get(&key).filter(|known| known.version == version) {
            return known.mime;
        }
        let mut buffer = [0; HEAD];
        let Some(read) = head(&mut buffer) else { return BINARY };
        let mime = recognised(&buffer[..read]);
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, Known { version, mime });
        mime
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The type of a file with these first bytes.
pub fn recognised(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "text/plain";
    }
    if head.iter().all(|byte| is_text(*byte)) {
        return of_text(head);
    }
    match infer::get(head).map(|kind| kind.mime_type()) {
        Some("application/zip") if is_jar(head) => "application/java-archive",
        Some("application/vnd.rar") => "application/x-rar-compressed",
        Some(mime) => mime,
        None if head.starts_with(b"\xff\xfe") => "text/plain; charset=utf-16le",
        None if head.starts_with(b"\xfe\xff") => "text/plain; charset=utf-16be",
        None => BINARY,
    }
}

/// Whether a byte is part of text, as browsers decide it.
fn is_text(byte: u8) -> bool {
    !matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

fn of_text(head: &[u8]) -> &'static str {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        Some(b'<') if begins_with(text, b"<?xml") => return "text/xml; charset=utf-8",
        Some(b'<') if is_html(text) => return "text/html; charset=utf-8",
        Some(b'{') if text.starts_with(b"{\\rtf") => return "text/rtf",
        Some(b'{' | b'[') if is_json(text, head.len() >= HEAD) => return "application/json",
        Some(b'#') if is_shell_script(text) => return "text/x-shellscript",
        Some(b'%') if text.starts_with(b"%PDF-") => return "application/pdf",
        _ => {}
    }
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_some() => "text/plain; charset=iso-8859-1",
        _ => TEXT,
    }
}

fn begins_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_html(text: &[u8]) -> bool {
    const TAGS: [&[u8]; 8] =
        [b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<table", b"<title", b"<!--"];
    TAGS.iter().any(|tag| begins_with(text, tag))
}

/// Whether it is an object or an array; `cut`: only its beginning is there.
fn is_json(text: &[u8], cut: bool) -> bool {
    match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        Ok(_) => true,
        Err(error) => cut && error.is_eof(),
    }
}

fn is_shell_script(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(program) = line.strip_prefix(b"#!").map(<[u8]>::trim_ascii) else { return false };
    let mut words = program.split(|byte| *byte == b' ' || *byte == b'/').filter(|word| !word.is_empty());
    words.any(|word| matches!(word, b"sh" | b"bash" | b"dash" | b"ash" | b"zsh" | b"ksh" | b"csh" | b"tcsh"))
}

/// Whether the first entry of a zip is that of a Java archive.
fn is_jar(head: &[u8]) -> bool {
    head.get(30..).is_some_and(|name| name.starts_with(b"META-INF/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_recognised() {
        let long = format!("{{\"a\": \"{}", "x".repeat(HEAD));
        for (content, mime) in [
            (&b""[..], "text/plain"),
            (b"some text\n", TEXT),
            ("gr\u{fc}n".as_bytes(), TEXT),
            (b"gr\xfcn", "text/plain; charset=iso-8859-1"),
            (b"key: value\n", TEXT),
            (b"{\"a\": [1, null]}", "application/json"),
            (&long.as_bytes()[..HEAD], "application/json"),
            (b"{not json", TEXT),
            (b"<?xml version='1.0'?><a/>", "text/xml; charset=utf-8"),
            (b"<!DOCTYPE html><html>", "text/html; charset=utf-8"),
            (b"#!/bin/sh\necho", "text/x-shellscript"),
            (b"#!/usr/bin/env bash\n", "text/x-shellscript"),
            (b"# a comment", TEXT),
            (b"\x89PNG\r\n\x1a\n\0\0\0\0", "image/png"),
            (b"PK\x03\x04\0\0\0\0\0\0", "application/zip"),
            (b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaa\0\0\0\0META-INF/MANIFEST.MF", "application/java-archive"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "application/gzip"),
            (b"\0\x01\x02\x03", BINARY),
        ] {
            assert_eq!(recognised(content), mime, "{:?}", String::from_utf8_lossy(content));
        }
    }
}
