//! Unusual courses of pods.

use super::external::CourseChange;
use crate::plan::Course;
use mlop_sim::kubelet::PodOutcome;
use std::time::Duration;

/// How long pods are queued or slow.
const LONG: Duration = Duration::from_secs(600);

/// The change of a pod's outcome by a course.
pub fn change(course: Course) -> CourseChange {
    match course {
        Course::ImagePull => |_| PodOutcome::image_pull_back_off(),
        Course::SecretMissing => {
            |_| PodOutcome::held_up("CreateContainerConfigError", "secret \"absent\" not found")
        }
        Course::Queued => |pod| pod.queued_for(LONG),
        Course::Slow => |pod| pod.running_for(LONG),
        Course::Preempted => |_| PodOutcome::preempted(),
        Course::Evicted => |_| PodOutcome::evicted(),
        Course::NodeLost => |_| PodOutcome::node_lost(),
        Course::DiskFull => {
            |_| PodOutcome::disk_full("Usage of EmptyDir volume \"tmp\" exceeds the limit \"64Mi\". ")
        }
        Course::Rejected => |_| PodOutcome::rejected("OutOfcpu", "Node didn't have enough resource: cpu"),
    }
}

/// Whether a pod of this course carries out its work.
pub fn works(change: CourseChange) -> bool {
    change(PodOutcome::succeed("")).exits()
}
