//! What the node's file says about access to servers' files.

use super::file::ConfigFile;
use super::lenient::Lenient;

/// Limits of the file API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// The most MiB of an uploaded file.
    pub upload_limit_mib: u64,
    /// How many directories below its start a search enters.
    pub search_depth: usize,
    /// Names of directories that a search skips.
    pub search_skips: Vec<String>,
    /// `None`: no files are fetched from the web.
    pub remote_download: Option<RemoteDownload>,
}

/// Files that are fetched from the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDownload {
    /// Redirects that are followed.
    pub max_redirects: u32,
}

impl FilesConfig {
    pub(super) fn resolve(file: &ConfigFile, lenient: &mut Lenient) -> Self {
        let upload_limit_mib = lenient.within("api.upload_limit", file.api.upload_limit, 0..=1 << 40, "MiB", 100);
        let depth = file.search.max_recursion_depth;
        let search_depth: u32 = lenient.within("Search.max_recursion_depth", depth, 0..=1000, "directories", 8);
        Self {
            upload_limit_mib,
            search_depth: search_depth as usize,
            search_skips: file.search.blacklisted_dirs.clone(),
            remote_download: remote_download(file, lenient),
        }
    }
}

fn remote_download(file: &ConfigFile, lenient: &mut Lenient) -> Option<RemoteDownload> {
    // As in Wings, less than 1 means 10.
    let asked = match file.api.remote_download.max_redirects {
        less if less < 1 => 10,
        redirects => redirects,
    };
    let max_redirects = lenient.within("api.remote_download.max_redirects", asked, 1..=100, "redirects", 10);
    (!file.api.disable_remote_download).then_some(RemoteDownload { max_redirects })
}
