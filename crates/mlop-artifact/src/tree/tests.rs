use super::*;
use std::os::unix::fs::symlink;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn provenance(seed: i64) -> Provenance {
    Provenance { image: "train:1".into(), seed, ..Provenance::default() }
}

#[tokio::test]
async fn tree_comes_back_file_by_file() {
    let store = ObjectStoreHandle::in_memory("models");
    let dir = directory(&[("model.bin", "weights"), ("meta/info.json", "{}"), ("empty", "")]);
    let tree = upload(&store, dir.path(), provenance(1)).await.unwrap();
    let paths: Vec<_> = tree.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["empty", "meta/info.json", "model.bin"]);
    let into = tempfile::tempdir().unwrap();
    assert_eq!(download(&store, &tree.digest, into.path()).await.unwrap(), tree.manifest);
    assert_eq!(std::fs::read_to_string(into.path().join("meta/info.json")).unwrap(), "{}");
    assert_eq!(std::fs::read_to_string(into.path().join("empty")).unwrap(), "");
}

#[tokio::test]
async fn provenance_is_part_of_the_identity() {
    let store = ObjectStoreHandle::in_memory("models");
    let dir = directory(&[("model.bin", "weights")]);
    let one = upload(&store, dir.path(), provenance(1)).await.unwrap();
    let same = upload(&store, dir.path(), provenance(1)).await.unwrap();
    let other = upload(&store, dir.path(), provenance(2)).await.unwrap();
    assert_eq!(one.digest, same.digest);
    assert_ne!(one.digest, other.digest);
}

#[tokio::test]
async fn interrupted_upload_is_finished_by_its_retry() {
    let dir = directory(&[("a", "1"), ("b", "2")]);
    let whole = upload(&ObjectStoreHandle::in_memory("x"), dir.path(), provenance(1)).await.unwrap();

    let store = ObjectStoreHandle::in_memory("models");
    let written = manifest::tree_key(&whole.digest, "a");
    store.create(&written, "1").await.unwrap();
    assert!(download(&store, &whole.digest, dir.path()).await.is_err(), "no manifest, no tree");
    let tree = upload(&store, dir.path(), provenance(1)).await.unwrap();
    assert_eq!(tree.digest, whole.digest);
    download(&store, &tree.digest, tempfile::tempdir().unwrap().path()).await.unwrap();
}

#[tokio::test]
async fn one_flipped_byte_of_a_file_is_refused() {
    let store = ObjectStoreHandle::in_memory("models");
    let tree = upload(&store, directory(&[("a", "1")]).path(), provenance(1)).await.unwrap();
    let key = manifest::tree_key(&tree.digest, "a");
    store.delete(&key).await.unwrap();
    store.create(&key, "0").await.unwrap();
    let into = tempfile::tempdir().unwrap();
    let failure = download(&store, &tree.digest, into.path()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::InputCorrupt);
    assert!(!into.path().join("a").exists());
}

#[tokio::test]
async fn entries_that_cannot_be_kept_are_named_in_the_manifest() {
    let store = ObjectStoreHandle::in_memory("models");
    let (dir, outside) = (directory(&[("a", "1")]), directory(&[("secret", "key")]));
    symlink(outside.path().join("secret"), dir.path().join("b")).unwrap();
    let tree = upload(&store, dir.path(), provenance(1)).await.unwrap().manifest;
    assert_eq!(tree.files.len(), 1);
    assert_eq!((tree.skipped.len(), tree.skipped[0].path.as_str()), (1, "b"));
}

#[tokio::test]
async fn names_of_unfinished_downloads_do_not_collide() {
    let store = ObjectStoreHandle::in_memory("models");
    let weights = "w".repeat(1 << 20);
    let files = [
        ("model", weights.as_str()),
        ("model.partial", "p"),
        ("x/1.partial/y", "y"),
        ("x/1", "1"),
        (".mlop-unfinished/0", "z"),
        (".mlop-unfinished_", "_"),
    ];
    let tree = upload(&store, directory(&files).path(), provenance(1)).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    download(&store, &tree.digest, into.path()).await.unwrap();
    download(&store, &tree.digest, into.path()).await.unwrap();
    for (path, content) in files {
        assert_eq!(std::fs::read_to_string(into.path().join(path)).unwrap(), content, "{path}");
    }
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 5, "nothing unfinished is left");
}

#[tokio::test]
async fn download_takes_only_the_wanted_part() {
    let store = ObjectStoreHandle::in_memory("models");
    let dir = directory(&[("model/MLmodel", "m"), ("model-settings.json", "{}"), ("model/data/w", "w")]);
    let tree = upload(&store, dir.path(), provenance(1)).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    let part = download_part(&store, &tree.digest, into.path(), Some("model/")).await.unwrap();
    assert_eq!(part.files.len(), 2);
    assert!(into.path().join("model/data/w").exists());
    assert!(!into.path().join("model-settings.json").exists());
    let failure = download_part(&store, &tree.digest, into.path(), Some("modell")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::InvalidSpec);
    assert!(failure.message.contains("model, model-settings.json"), "{}", failure.message);
}

#[tokio::test]
async fn executable_files_stay_executable() {
    let store = ObjectStoreHandle::in_memory("models");
    let dir = directory(&[("run.sh", "#!"), ("data", "1")]);
    let mode = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(dir.path().join("run.sh"), mode).unwrap();
    let tree = upload(&store, dir.path(), provenance(1)).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    download(&store, &tree.digest, into.path()).await.unwrap();
    let mode = |name: &str| into.path().join(name).metadata().unwrap().permissions().mode() & 0o100;
    assert_eq!((mode("run.sh"), mode("data")), (0o100, 0));
}
