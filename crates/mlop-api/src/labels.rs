//! Labels, annotations and paths that operators, pods and users share.

/// Label of every object that mlop makes, pods included, with the value [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "mlop";
/// Label: name of the intent that an object belongs to.
pub const INTENT: &str = "mlop.dev/intent";
/// Label: kind of that intent.
pub const INTENT_KIND: &str = "mlop.dev/intent-kind";
/// Label: name of the run that a pod or Job works for.
pub const RUN: &str = "mlop.dev/run";
/// Label: kind of that run.
pub const RUN_KIND: &str = "mlop.dev/run-kind";
/// Label: number of the attempt, from 1.
pub const ATTEMPT: &str = "mlop.dev/attempt";
/// Label that the Job controller puts on the pods of an Indexed Job: the rank of the pod, from 0.
pub const RANK: &str = "batch.kubernetes.io/job-completion-index";
/// Label: the task of a pod: `run`, `scan`, `probe`, `activation`, `cleanup`, `analysis`, `routing` or `serving`.
pub const ROLE: &str = "mlop.dev/role";
/// Value of that label on the pods of servers.
pub const SERVING: &str = "serving";
/// Value of that label on the pods of routers.
pub const ROUTING: &str = "routing";
/// Label of a run or an activation pod: the number under which it may activate its output.
pub const REVISION: &str = "mlop.dev/revision";
/// Label: which operator made the object; operators watch only their own.
pub const OPERATOR: &str = "mlop.dev/operator";
/// Label: 63 characters at most of the hexadecimal digest that the object is for.
pub const DIGEST: &str = "mlop.dev/digest";
/// Annotation of a small pod: the requests that it answers, such as a time slot or the value of an annotation.
pub const MADE_FOR: &str = "mlop.dev/made-for";
/// Annotation of a pod: the [task](crate::task::Task) as JSON, mounted as a file.
pub const TASK: &str = "mlop.dev/task";
/// Annotation of a pod that serves: digest of its template without the image of our own container, and its edition. Of a
/// small pod: digest of its template. Of a Job: digest of the template of its pod.
pub const TEMPLATE: &str = "mlop.dev/template";
/// Label of a user's pods, with the value `true`: they may connect to the managed MLflow servers of their namespace.
pub const TRACKING_CLIENT: &str = "mlop.dev/tracking-client";
/// Annotation of a small pod: the failure of the attempt before it as JSON.
pub const LAST_FAILURE: &str = "mlop.dev/last-failure";
/// Annotation of a user: try again what failed (any new value; RFC 3339 by convention).
pub const RETRY_REQUESTED_AT: &str = "mlop.dev/retry-requested-at";
/// Annotation of a user: end the active run, or take the version back that is rolled out in steps (any new value; RFC 3339 by
/// convention). On a run: the request before it.
pub const CANCEL_REQUESTED_AT: &str = "mlop.dev/cancel-requested-at";
/// Annotation of a user: take the version for good that is rolled out in steps (any new value; RFC 3339 by convention).
pub const PROMOTE_REQUESTED_AT: &str = "mlop.dev/promote-requested-at";
/// Annotation of a user: look at the source again now.
pub const REFRESH_REQUESTED_AT: &str = "mlop.dev/refresh-requested-at";
/// Set by users on an intent, to any new value (RFC 3339 by convention): start a run on the present inputs, also with
/// `trigger.mode: manual`. An Event answers if there is nothing to do.
pub const RUN_REQUESTED_AT: &str = "mlop.dev/run-requested-at";

/// Annotation of a router's pod: a digest of its newest routes. The kubelet brings a changed ConfigMap into a pod when it
/// looks at the pod: after a change of the pod at once, else within ninety seconds.
pub const ROUTES: &str = "mlop.dev/routes";

/// Directory in our containers with `task.json`.
pub const TASK_DIR: &str = "/run/mlop/task";
/// Directory in our containers with one directory of key files per ObjectStore.
pub const STORES_DIR: &str = "/run/mlop/stores";
/// Keys of the Secret that an ObjectStore names; each becomes a file of that name.
pub const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// Optional key of that Secret: the token of temporary keys.
pub const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
/// Optional key of a connection's Secret: certificates (PEM) of the authority that signed the server's.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Directory with the file [`ROUTES_FILE`] of a router.
pub const ROUTES_DIR: &str = "/run/mlop/routes";
/// The [routes](crate::routes::Routes) of a router as JSON. Key of its ConfigMap.
pub const ROUTES_FILE: &str = "routes.json";
/// Directory with the online store's `password` file.
pub const REDIS_DIR: &str = "/run/mlop/redis";
/// Directory with the keys of the Secret that a TrackingServer names.
pub const TRACKING_DIR: &str = "/run/mlop/tracking";
/// Keys of that Secret: a bearer token, or a user's name and password.
pub const TRACKING_TOKEN: &str = "token";
pub const TRACKING_USERNAME: &str = "username";
pub const TRACKING_PASSWORD: &str = "password";
/// Name of the container whose termination message is the result.
pub const WORKER_CONTAINER: &str = "worker";
/// Name of the init container that brings the launcher to the user's container.
pub const COPY_CONTAINER: &str = "copy";
/// Name of the init container that fetches inputs.
pub const FETCH_CONTAINER: &str = "fetch";
/// Name of the container that runs a user's command.
pub const USER_CONTAINER: &str = "user";
/// Name of the container that serves a user's model.
pub const SERVER_CONTAINER: &str = "mlserver";
