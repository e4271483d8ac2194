//! Copies a file next to itself, under a name that is free.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::user_path::UserPath;
use super::create::NewFile;
use super::error::TreeError;
use super::{Entry, Tree};

/// A verb for errors.
const ACTION: &str = "copy";

/// The most bytes that are copied between two looks at the flag.
const STEP: u64 = 16 << 20;

/// The names with a number, after the one without.
const NUMBERED: u32 = 48;

/// The longest name.
const MAX_NAME: usize = 255;

impl Tree {
    /// Copies a regular file to the first free name of [`copy_names`]; the path of the copy. It has the same permission bits.
    /// `now` is the time for the last name.
    ///
    /// # Errors
    /// It is no regular file, it does not fit, the denylist has it, or `cancelled` was set.
    pub fn copy(&self, path: &UserPath, now: &str, cancelled: &AtomicBool) -> Result<UserPath, TreeError> {
        let (Some(name), Some(directory)) = (path.name(), path.parent()) else {
            return Err(TreeError::IsDirectory(path.clone()));
        };
        let (mut source, Entry { size, mode, .. }) = self.open(path)?;
        let mut names = copy_names(name, now);
        let first = names.next().unwrap_or_default();
        let target = directory.child(&first);
        let new = NewFile { mode, keep_mode: false, size: Some(size) };
        let mut copy = self.create_unnamed(&directory, new)?;
        while copy.copy_from(&mut source, STEP).map_err(TreeError::io(ACTION, path))? > 0 {
            if cancelled.load(Ordering::Relaxed) {
                return Err(TreeError::Cancelled(target));
            }
        }
        copy.commit_as([first].into_iter().chain(names))
    }
}

/// The names for a copy of `name`, in the order in which they are tried: `name copy.ext`, `name copy 1.ext` to `name copy
/// 48.ext`, and one with the time. `.tar.gz` and the like count as one extension.
///
/// Source: `filesystem.md` § 2.
pub fn copy_names(name: &OsStr, now: &str) -> impl Iterator<Item = OsString> + use<> {
    let (stem, extension) = split(name.as_bytes());
    let (stem, extension) = (stem.to_owned(), extension.to_owned());
    let numbered = (1..=NUMBERED).map(|number| format!(" copy {number}"));
    let suffixes = [" copy".to_owned()].into_iter().chain(numbered).chain([format!(" copy.{now}")]);
    suffixes.map(move |suffix| {
        let room = MAX_NAME.saturating_sub(suffix.len() + extension.len());
        let mut stem = &stem[..stem.len().min(room)];
        // A character is not cut.
        while stem.len() == room && std::str::from_utf8(stem).is_err_and(|error| error.error_len().is_none()) {
            stem = &stem[..stem.len() - 1];
        }
        OsString::from_vec([stem, suffix.as_bytes(), &extension].concat())
    })
}

/// A name before its extension, and the extension with its dot.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    // The first dot of a hidden file begins no extension.
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    let Some(dot) = dot else { return (name, b"") };
    let (stem, _) = name.split_at(dot);
    match stem.len() > b".tar".len() && stem.ends_with(b".tar") {
        true => name.split_at(dot - b".tar".len()),
        false => name.split_at(dot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<String> {
        copy_names(OsStr::new(name), "NOW").map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn names_are_those_of_wings() {
        let all = names("name.ext");
        assert_eq!(all.len(), 50);
        assert_eq!(all[..3], ["name copy.ext", "name copy 1.ext", "name copy 2.ext"]);
        assert_eq!(all[48..], ["name copy 48.ext", "name copy.NOW.ext"]);
        for (name, copy) in [
            ("x.tar.gz", "x copy.tar.gz"),
            (".hidden", ".hidden copy"),
            ("plain", "plain copy"),
            ("a.b.c", "a.b copy.c"),
        ] {
            assert_eq!(names(name)[0], copy);
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let all = names(&format!("{}.txt", "ä".repeat(125)));
        assert!(all.iter().all(|name| name.len() <= 255 && name.ends_with(".txt")), "{all:?}");
    }
}
