//! Strictness that is switched off, since the daemon does not stand up to it yet. Each constant turned to `true` is a set of
//! failing seeds; whoever mends the daemon turns it on.

/// A terminal of a container that has ended ends at once, as Docker's does.
pub const ENDED_TERMINALS_END: bool = true;

/// The engine keeps only the end of what an installer prints.
pub const LOGS_ROTATE: bool = true;

/// The install log of a script that runs on while the engine is away has its last line.
pub const LOGS_OUTLIVE_THE_ENGINE: bool = true;

/// The log of an installation whose result cannot be written down is closed once, and not again and again meanwhile.
pub const LOGS_ARE_CLOSED_ONCE: bool = true;

/// A container of an earlier life of the daemon has the limits that files and panel give it, also where that life had put others
/// in force.
pub const LIMITS_OUTLIVE_THE_DAEMON: bool = true;

/// Nobody waits for a place for installations, or holds one, without an installation.
pub const PLACES_ARE_GIVEN_BACK: bool = true;

/// The panel knows how a server stands that it lists again.
pub const LISTED_AGAIN_IS_TOLD: bool = true;
