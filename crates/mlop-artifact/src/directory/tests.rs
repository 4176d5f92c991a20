use super::*;
use std::{
    fs::{create_dir, create_dir_all, write},
    io::Read,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink, net::UnixListener},
};

fn listed(root: &Path) -> (Vec<String>, Vec<(String, String)>) {
    let contents = Directory::open(root).unwrap().contents().unwrap();
    assert_eq!(contents.skipped.len(), contents.skipped_count);
    let files = contents.files.into_iter().map(|file| file.path).collect();
    (files, contents.skipped.into_iter().map(|skipped| (skipped.path, skipped.reason)).collect())
}

fn read(root: &Path, path: &str) -> String {
    let directory = Directory::open(root).unwrap();
    let contents = directory.contents().unwrap();
    let found = contents.files.iter().find(|file| file.path == path).unwrap();
    let mut text = String::new();
    directory.file(found).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn files_are_listed_sorted_and_open() {
    let dir = tempfile::tempdir().unwrap();
    create_dir_all(dir.path().join("b/empty")).unwrap();
    write(dir.path().join("b/c"), "1").unwrap();
    write(dir.path().join("a"), "2").unwrap();
    assert_eq!(listed(dir.path()), (vec!["a".into(), "b/c".into()], vec![]));
    assert_eq!(read(dir.path(), "b/c"), "1");
}

#[test]
fn links_inside_count_as_their_targets() {
    let dir = tempfile::tempdir().unwrap();
    create_dir(dir.path().join("step-5")).unwrap();
    write(dir.path().join("step-5/weights"), "w").unwrap();
    symlink("step-5/weights", dir.path().join("file")).unwrap();
    symlink("step-5", dir.path().join("last")).unwrap();
    symlink(dir.path().join("step-5"), dir.path().join("absolute")).unwrap();
    symlink("absolute/../last/weights", dir.path().join("chain")).unwrap();
    let files = ["absolute/weights", "chain", "file", "last/weights", "step-5/weights"];
    assert_eq!(listed(dir.path()), (files.map(str::to_owned).to_vec(), vec![]));
    for file in files {
        assert_eq!(read(dir.path(), file), "w", "{file}");
    }
}

#[test]
fn links_never_lead_out() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(outside.path().join("secret"), "key").unwrap();
    symlink(outside.path().join("secret"), dir.path().join("absolute")).unwrap();
    symlink("../secret", dir.path().join("relative")).unwrap();
    symlink(outside.path(), dir.path().join("directory")).unwrap();
    symlink("directory/secret", dir.path().join("through")).unwrap();
    let (files, skipped) = listed(dir.path());
    assert!(files.is_empty(), "{files:?}");
    assert_eq!(skipped.len(), 4);
    for (path, reason) in skipped {
        assert!(reason.contains("leads out of the directory"), "{path}: {reason}");
    }
}

#[test]
fn directory_exchanged_for_a_link_is_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_dir(dir.path().join("sub")).unwrap();
    write(dir.path().join("sub/file"), "mine").unwrap();
    write(outside.path().join("file"), "key").unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let contents = directory.contents().unwrap();
    std::fs::remove_dir_all(dir.path().join("sub")).unwrap();
    symlink(outside.path(), dir.path().join("sub")).unwrap();
    let failure = directory.file(&contents.files[0]).unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::WorkerFailed, true));
}

#[test]
fn other_entries_are_skipped_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("kept"), "1").unwrap();
    symlink("gone", dir.path().join("dangling")).unwrap();
    symlink("kept/x", dir.path().join("below-a-file")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    create_dir(dir.path().join("d")).unwrap();
    symlink("..", dir.path().join("d/up")).unwrap();
    symlink(".", dir.path().join("self")).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    write(dir.path().join("new\nline"), "x").unwrap();
    write(dir.path().join("back\\slash"), "x").unwrap();
    write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    let (files, skipped) = listed(dir.path());
    assert_eq!(files, ["kept"]);
    let expected = [
        ("back\\slash", "has a control character or a backslash"),
        ("below-a-file", "is a link that leads to nothing"),
        ("caf\u{fffd}", "has a name that is not UTF-8"),
        ("d/up", "is a link to a directory that contains it"),
        ("dangling", "is a link that leads to nothing"),
        ("loop", "is a link that leads to itself"),
        ("new\nline", "has a control character or a backslash"),
        ("self", "is a link to a directory that contains it"),
        ("socket", "is a socket"),
    ];
    assert_eq!(skipped, expected.map(|(path, reason)| (path.to_owned(), reason.to_owned())));
}

#[test]
fn files_without_read_permission_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    create_dir(dir.path().join("closed")).unwrap();
    write(dir.path().join("closed/file"), "1").unwrap();
    for path in ["closed/file", "closed"] {
        std::fs::set_permissions(dir.path().join(path), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    assert_eq!(read(dir.path(), "closed/file"), "1");
}

#[test]
fn link_in_the_path_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    assert!(Directory::open(&dir.path().join("link")).is_err());
}
