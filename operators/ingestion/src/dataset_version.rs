//! `DatasetVersion`: one pod reads the listed objects and writes a table.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use mlop_api::{
    MEDIA_TABLE,
    dataset::DatasetVersion,
    task::{Subject, Task, VersionWork, Work},
};
use mlop_core::{
    Blocked,
    children::{container, pod},
    run::{Observed, Run},
};

pub struct DatasetVersionRun;

impl Run for DatasetVersionRun {
    type Resource = DatasetVersion;
    type Related = ();
    const MEDIA_TYPE: &'static str = MEDIA_TABLE;

    fn attempt(observed: &Observed<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, Blocked> {
        let spec = &observed.object.spec;
        let source_name = spec.objects.as_ref().map_or("", |objects| &objects.store);
        let (source, output) = (observed.store(source_name)?, observed.store(&spec.store)?);
        let work = Work::Version(Box::new(VersionWork {
            source: pod::store(source),
            listing: spec.listing.clone(),
            content: spec.content.clone(),
            previous_rows: spec.previous_rows.and_then(|rows| u64::try_from(rows).ok()),
            output: pod::store(output),
        }));
        let execution = &spec.execution;
        Ok(pod::Builder::once(meta)
            .task(&Task { subject, work })
            .keys(source)
            .keys(output)
            .scratch("tmp", None, false)
            .container(container::worker(
                &observed.worker_image,
                &[],
                &[source, output],
                &execution.resources,
            ))
            .execution(execution)
            .build())
    }
}
