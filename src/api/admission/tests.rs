//! Tables of admission.
