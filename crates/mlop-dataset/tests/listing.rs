//! A listing of many objects, written and read in little memory. This test is a process of its own: it looks at the
//! memory of the whole process.

use mlop_artifact::store::ObjectStoreHandle;
use mlop_dataset::listing::{Listing, Object, Writer};

/// Objects. Their listing is larger than all bounds below together.
const OBJECTS: u64 = 200_000;
/// Largest growth of the memory of the process, in KiB.
const GROWTH_MAX: u64 = 16 << 10;

/// Memory of this process in KiB, as the kernel counts it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn object(number: u64) -> Object {
    let key = format!("{}/{number:08}.parquet", "year=2026/month=01/day=01/".repeat(6));
    Object { key, size: 1_000, etag: format!("\"{number:032x}\""), version: None }
}

#[tokio::test]
async fn memory_does_not_grow_with_the_number_of_objects() {
    let output = ObjectStoreHandle::in_memory("data");
    let (before, mut writer) = (resident().unwrap(), Writer::new().unwrap());
    (0..OBJECTS).for_each(|number| writer.add(object(number)).unwrap());
    let growth = resident().unwrap().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "writing: {growth} KiB");

    // The store in memory holds the listing, so this part is not measured.
    let digest = writer.store(&output).await.unwrap();
    let listing = Listing::read(&output, &digest).await.unwrap();
    let (before, mut most, mut next) = (resident().unwrap(), 0, 0);
    let read = listing.for_each(|found| {
        assert_eq!(found, object(next));
        next += 1;
        if next % 10_000 == 0 {
            most = most.max(resident().unwrap());
        }
        Ok(())
    });
    assert_eq!(read.unwrap(), OBJECTS);
    let growth = most.saturating_sub(before);
    assert!(growth < GROWTH_MAX, "reading: {growth} KiB");
}
