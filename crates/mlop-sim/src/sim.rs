//! The handle of a simulation in a test.

use std::sync::{Arc, MutexGuard};

use jiff::Timestamp;
use kube::{Client, Resource, core::response::Status};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    api::{
        delete::DeleteOptions,
        http::Service,
        server::Server,
        shared::SharedServer,
        status::{self, Result},
        write::{Body, WriteOptions, Written},
    },
    cluster::garbage_collector,
    schema::resource::ResourceType,
    storage::trace::{self, Write},
};

/// The field manager of direct writes.
const TEST_MANAGER: &str = "mlop-sim";

/// An in-memory API server. Clones share its state.
///
/// Direct access (`get`, `create`, `edit`, ...) is for tests that act as a user, as another controller, or as a fault. It
/// obeys the rules of requests, writes spec and status in one step, and does not appear in [`writes`](Sim::writes).
#[derive(Clone)]
pub struct Sim {
    pub(crate) server: SharedServer,
}

impl Sim {
    /// A server with the namespaces `default` and `kube-system`.
    ///
    /// It needs a tokio runtime, which runs the garbage collector and provides the server's time.
    #[expect(clippy::new_without_default, reason = "a default that needs a runtime would surprise")]
    pub fn new() -> Self {
        let sim = Self { server: SharedServer::new(Server::new()) };
        for name in ["default", "kube-system"] {
            create_namespace(&mut sim.lock(), name);
        }
        garbage_collector::spawn(&sim.server);
        sim
    }

    /// Omits `metadata.managedFields`, a large part of most objects, from all further responses. The ownership of fields
    /// does not change.
    pub fn hide_managed_fields(&self) {
        self.lock().shows_managers = false;
    }

    /// A client with the namespace `default`, without the layers of kube's own stack (retries, timeouts).
    pub fn client(&self) -> Client {
        Client::new(self.service(), "default")
    }

    /// The service behind the client, for tests that add layers to it.
    pub fn service(&self) -> Service {
        Service { server: self.server.clone() }
    }

    /// The server's time: 2026-01-01T00:00:00Z plus the time of tokio's clock since [`Sim::new`].
    pub fn now(&self) -> Timestamp {
        self.lock().clock.now()
    }

    /// The resource version of the last write.
    pub fn revision(&self) -> u64 {
        self.lock().store.revision()
    }

    /// Waits until the last write is another one than that of `revision`, or the server was restored from a backup.
    pub async fn changed_since(&self, revision: u64) {
        let mut subscription = self.lock().store.subscribe(|_| true);
        while self.revision() == revision && subscription.changed().await.is_ok() {}
    }

    /// Every write request so far, including refused ones.
    pub fn writes(&self) -> Vec<Write> {
        self.lock().writes.clone()
    }

    /// A hash of [`writes`](Sim::writes). It does not vary between processes.
    pub fn trace_hash(&self) -> u64 {
        trace::hash(&self.lock().writes)
    }

    /// The object of this name; `None` if it does not exist or does not fit `K`. `namespace` is empty for cluster-scoped
    /// types.
    pub fn get<K>(&self, namespace: &str, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let server = self.lock();
        let object = server.find(&*typed::<K>(&server).ok()?, namespace, name).ok()?;
        K::deserialize(&**object).ok()
    }

    /// All objects of a type in all namespaces, ordered by namespace and name, except those that do not fit `K`.
    pub fn list<K>(&self) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let server = self.lock();
        let Ok(ty) = typed::<K>(&server) else { return Vec::new() };
        let objects = server.store.list(&ty.resource, None);
        objects.filter_map(|(_, object)| K::deserialize(&***object).ok()).collect()
    }

    /// Creates an object, in the namespace `default` if it names none.
    ///
    /// # Errors
    /// The `Status` that a client would get: the type is not served, the object is invalid or already exists.
    pub fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let mut server = self.lock();
        let ty = typed::<K>(&server)?;
        let namespace = object.meta().namespace.clone().unwrap_or_else(|| "default".into());
        let object = encode::<K>(object)?;
        let written = server.create(&ty, &namespace, object, &WriteOptions::direct(TEST_MANAGER))?;
        decode(written)
    }

    /// Reads an object, changes it, and writes its metadata, spec and status in one step.
    ///
    /// # Errors
    /// The `Status` that a client would get: the object does not exist, or is invalid after the change.
    pub fn edit<K>(&self, namespace: &str, name: &str, change: impl FnOnce(&mut K)) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let mut server = self.lock();
        let ty = typed::<K>(&server)?;
        let old = server.find(&ty, namespace, name)?;
        let mut object = K::deserialize(&**old).map_err(undecodable)?;
        change(&mut object);
        let new = encode::<K>(&object)?;
        decode(server.replace(&ty, &old, new, None, &WriteOptions::direct(TEST_MANAGER))?)
    }

    /// Deletes an object with background propagation, as `kubectl delete` does.
    ///
    /// # Errors
    /// The object does not exist.
    pub fn delete<K>(&self, namespace: &str, name: &str) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let mut server = self.lock();
        let ty = typed::<K>(&server)?;
        server.delete(&ty, namespace, name, &DeleteOptions::default()).map(|_| ())
    }

    /// The number of objects of a type, including those that do not fit `K`.
    pub fn count<K>(&self) -> usize
    where
        K: Resource<DynamicType = ()>,
    {
        let server = self.lock();
        typed::<K>(&server).map_or(0, |ty| server.store.list(&ty.resource, None).count())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Server> {
        self.server.lock()
    }
}

fn create_namespace(server: &mut Server, name: &str) {
    let Some(ty) = server.types.get("namespaces", "").cloned() else { return };
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    // An empty server accepts a namespace with a valid name.
    let _ = server.create(&ty, "", object, &WriteOptions::direct(TEST_MANAGER));
}

fn typed<K: Resource<DynamicType = ()>>(server: &Server) -> Result<Arc<ResourceType>> {
    let ty = server.types.get(&K::plural(&()), &K::group(&()));
    ty.cloned().ok_or_else(status::no_such_resource)
}

/// The object as JSON with kind and API version, which handwritten types may omit.
fn encode<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Value> {
    let mut value = serde_json::to_value(object).map_err(undecodable)?;
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    Ok(value)
}

fn decode<K: DeserializeOwned>(written: Written) -> Result<K> {
    match written.body {
        Body::Object(object) => K::deserialize(&**object).map_err(undecodable),
        Body::Status(status) => Err(status),
    }
}

fn undecodable(error: serde_json::Error) -> Box<Status> {
    status::internal(format!("the object does not fit its Rust type: {error}"))
}
