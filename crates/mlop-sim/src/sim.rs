//! The handle that tests hold.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Client, Resource, core::response::Status};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    delete::DeleteOptions,
    gc,
    http::Service,
    resource::ResourceType,
    server::{Body, Server, WriteOptions, Written},
    status::{self, Result},
    trace::{self, Write},
};

/// The manager under which direct writes are recorded in `managedFields`.
const TEST_MANAGER: &str = "mlop-sim";

/// An in-memory API server. Clones share it.
///
/// Direct access (`get`, `create`, `edit`, ...) is for tests that play the user, another controller or the fault: it
/// obeys the same rules as a request, writes spec and status at once, and is left out of [`writes`](Sim::writes).
#[derive(Clone)]
pub struct Sim {
    pub(crate) server: Arc<Mutex<Server>>,
}

impl Sim {
    /// An empty server with the namespaces `default` and `kube-system`. Needs a tokio runtime: the garbage
    /// collector runs on it, and its time is the server's.
    #[expect(clippy::new_without_default, reason = "a default that needs a runtime would surprise")]
    pub fn new() -> Self {
        let server = Arc::new(Mutex::new(Server::new()));
        gc::spawn(&server);
        Self { server }
    }

    /// Serves the type that `crd` declares, in its storage version.
    ///
    /// # Errors
    /// Says what is missing in the CRD: a storage version, its schema, or a pattern that compiles.
    pub fn register_crd(&self, crd: &CustomResourceDefinition) -> std::result::Result<(), String> {
        self.lock().types.register(crd)
    }

    /// From now on clients get objects without `metadata.managedFields`, which are much of their text. Fields have
    /// their owners as before.
    pub fn hide_managed_fields(&self) {
        self.lock().shows_managers = false;
    }

    /// A client with `default` as its namespace. No layer of kube's own stack (retry, timeouts) is in it.
    pub fn client(&self) -> Client {
        Client::new(self.service(), "default")
    }

    /// The service behind the client, for tests that build a stack around it.
    pub fn service(&self) -> Service {
        Service { server: self.server.clone() }
    }

    /// The server's time: 2026-01-01T00:00:00Z and what tokio's clock has run since [`Sim::new`].
    pub fn now(&self) -> Timestamp {
        self.lock().clock.now()
    }

    /// The resource version of the last write.
    pub fn revision(&self) -> u64 {
        self.lock().store.revision()
    }

    /// Every write request so far, refused ones too.
    pub fn writes(&self) -> Vec<Write> {
        self.lock().writes.clone()
    }

    /// The same for the same writes at the same times, in every process.
    pub fn trace_hash(&self) -> u64 {
        trace::hash(&self.lock().writes)
    }

    /// Forgets the history: older resource versions get 410 from lists and watches.
    pub fn compact(&self) {
        self.lock().store.compact();
    }

    /// The object, if it is there. `namespace` is empty for cluster-scoped types.
    pub fn get<K>(&self, namespace: &str, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let server = self.lock();
        let object = server.find(&*typed::<K>(&server).ok()?, namespace, name).ok()?;
        K::deserialize(&**object).ok()
    }

    /// All objects of a type in all namespaces, by namespace and name. Undecodable ones are left out.
    pub fn list<K>(&self) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let server = self.lock();
        let Ok(ty) = typed::<K>(&server) else { return Vec::new() };
        let objects = server.store.list(&ty.resource, None);
        objects.filter_map(|(_, object)| K::deserialize(&***object).ok()).collect()
    }

    /// Creates an object, in `default` if it names no namespace.
    ///
    /// # Errors
    /// What a client would get: the type is not served, the object is invalid or already there.
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

    /// Reads an object, changes it, and writes spec, metadata and status back in one step.
    ///
    /// # Errors
    /// What a client would get: it is not there, or what it became is invalid.
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

    /// Deletes an object in the background, as `kubectl delete` does.
    ///
    /// # Errors
    /// It is not there.
    pub fn delete<K>(&self, namespace: &str, name: &str) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let mut server = self.lock();
        let ty = typed::<K>(&server)?;
        server.delete(&ty, namespace, name, &DeleteOptions::default()).map(|_| ())
    }

    /// How many objects of a type there are, decodable or not.
    pub fn count<K>(&self) -> usize
    where
        K: Resource<DynamicType = ()>,
    {
        let server = self.lock();
        typed::<K>(&server).map_or(0, |ty| server.store.list(&ty.resource, None).count())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn typed<K: Resource<DynamicType = ()>>(server: &Server) -> Result<Arc<ResourceType>> {
    let ty = server.types.get(&K::plural(&()), &K::group(&()));
    ty.cloned().ok_or_else(status::no_such_resource)
}

/// As JSON with its type, which hand-written types may leave out.
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
