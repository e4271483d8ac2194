//! Names of backups.

use super::list::entries;
use super::list::tests::{backup, file, id};
use super::*;
use crate::cli::examples;

fn found(name: &str) -> Result<Uuid, String> {
    let known = Known {
        backups: vec![backup(1, 9), backup(2, 5), backup(0xff, 1)],
        files: vec![file(1), file(2)],
        ..Known::default()
    };
    let entries = entries(examples::servers()[0].uuid, &known);
    find(&entries, name).map(|entry| entry.backup).map_err(|error| error.to_string())
}

#[test]
fn a_backup_has_its_uuid_the_beginning_of_it_or_is_the_latest_one() {
    assert_eq!(found(&id(1).to_string()).unwrap(), id(1));
    assert_eq!(found(&id(1).to_string().to_uppercase()).unwrap(), id(1));
    assert_eq!(found("latest").unwrap(), id(2), "the file of the youngest is gone");
    assert!(found("0198").unwrap_err().contains("3 backups"));
    assert!(found("019").unwrap_err().contains("at least 4"));
    assert!(found("dead").unwrap_err().contains("alula backup list"));
}
