//! Which request counts.
