//! Cheap evidence that a file is unchanged since it was last read.
