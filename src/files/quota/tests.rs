use super::*;
use crate::testing::server_id;

#[test]
fn the_number_of_the_panel_comes_first_and_ids_never_leave_their_range() {
    let id = server_id(1);
    for (number, of_panel) in [
        (7, Some(7)),
        (i64::from(DERIVED) - 1, Some(DERIVED - 1)),
        (0, None),
        (-1, None),
        (i64::from(DERIVED), None),
        (i64::MAX, None),
    ] {
        let first = candidates(id, number).next().unwrap();
        assert_eq!(Some(first).filter(|first| *first < DERIVED), of_panel, "{number}");
    }
    let few: Vec<u32> = candidates(id, 0).take(1000).collect();
    assert!(few.iter().all(|id| (DERIVED..END).contains(id)));
    let last: ServerId = "fffffffe-0000-4000-8000-000000000000".parse().unwrap();
    let around: Vec<u32> = candidates(last, 0).take(4).collect();
    assert!(around.iter().all(|id| (DERIVED..END).contains(id)), "{around:?}");
    assert_eq!(candidates(id, 5).nth(1), candidates(id, 0).next(), "a number that is taken");
}

#[test]
fn entries_of_the_host_s_files_are_taken_unless_they_are_the_server_s() {
    let id = server_id(1);
    let names = format!("# comment\nmail:10\n{id}:11\n\nbroken\nweb: 12 \nx:-1\n");
    assert_eq!(named_projects(&names, id), [10, 12]);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap();
    let paths = format!("10:/var/mail\n11:{}\n12:{}/.\n13:/nowhere:x\n", data.display(), data.display());
    assert_eq!(projects_of_paths(&paths, &data), [10, 13]);
}

#[test]
fn without_quotas_nothing_is_done() {
    let node = crate::testing::TestNode::new();
    let (id, layout) = (server_id(1), &node.context.node.layout);
    layout.prepare(id).unwrap();
    assert_eq!(layout.quota(id), Quota::Off);
    assert_eq!(layout.quota_usage(id), None);
    layout.release_quota(id);
}
