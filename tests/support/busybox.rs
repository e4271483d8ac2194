//! The program in the images of tests.

use std::path::{Path, PathBuf};

/// A busybox that needs no libraries.
pub fn busybox() -> PathBuf {
    let path = std::env::var_os("ALULA_BUSYBOX").map_or_else(|| PathBuf::from("/bin/busybox"), PathBuf::from);
    let hint = "install the package busybox-static, or name one in ALULA_BUSYBOX";
    let program = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; {hint}", path.display()));
    let head = &program[..program.len().min(4096)];
    let dynamic = head.windows(4).any(|part| part == b"/ld-");
    assert!(!dynamic, "{} needs shared libraries; {hint}", Path::display(&path));
    path
}
