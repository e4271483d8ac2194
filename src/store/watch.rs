//! Watch of the server folders for changes of intent.
