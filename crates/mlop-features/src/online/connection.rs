//! Connections to Redis.

use mlop_api::{Reason, result::Failure};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
};
use std::{io, path::PathBuf, time::Duration};

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Repetitions of a request that a node of a cluster refers to another one.
const REFERRALS: u32 = 4;

/// Where Redis is and how to get in.
#[derive(Clone, Debug)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// The user; none: the default user.
    pub user: Option<String>,
    /// How TLS is spoken; none: not at all.
    pub tls: Option<Tls>,
    /// File with the password. Read at every connect, since a Secret's file follows the Secret.
    pub password_file: Option<PathBuf>,
    /// Whether it is a Redis Cluster, and `address` one of its nodes.
    pub cluster: bool,
    /// Longest time of one request.
    pub response_timeout: Duration,
}

/// TLS with Redis.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// File with the certificates (PEM) of Redis' own authority. If it is not there, public authorities count.
    pub ca_file: Option<PathBuf>,
}

impl Tls {
    fn root_certificates(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        match std::fs::read(file) {
            Ok(certificates) => Ok(Some(certificates)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let message = format!("reading the certificates {}: {error}", file.display());
                Err(io::Error::new(error.kind(), message))
            }
        }
    }
}

/// A connection to one server, or to the nodes of a cluster.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(server) => server.req_packed_command(command),
            Self::Cluster(nodes) => nodes.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(server) => server.req_packed_commands(pipeline, offset, count),
            Self::Cluster(nodes) => nodes.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(server) => server.get_db(),
            Self::Cluster(nodes) => nodes.get_db(),
        }
    }
}

impl Server {
    /// # Errors
    /// When the address cannot be used, the password not be read, or Redis does not answer or let us in.
    pub async fn connect(&self) -> RedisResult<Connection> {
        let mut login = RedisConnectionInfo::default();
        if let Some(file) = &self.password_file {
            let password = std::fs::read_to_string(file).map_err(|error| {
                io::Error::new(error.kind(), format!("reading the password {}: {error}", file.display()))
            })?;
            login = login.set_password(password.trim_end_matches(['\r', '\n']));
        }
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        let address = self.connection_address()?.into_connection_info()?.set_redis_settings(login);
        let certificates = self.tls.as_ref().map(Tls::root_certificates).transpose()?;
        let certificates = certificates.map(|root_cert| TlsCertificates { client_tls: None, root_cert });
        if self.cluster {
            return self.connect_cluster(address, certificates).await;
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT.min(self.response_timeout)))
            .set_response_timeout(Some(self.response_timeout));
        let client = match certificates {
            None => Client::open(address)?,
            Some(certificates) => Client::build_with_tls(address, certificates)?,
        };
        client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
    }

    async fn connect_cluster(
        &self,
        node: ConnectionInfo,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<Connection> {
        let builder = ClusterClientBuilder::new([node])
            .connection_timeout(CONNECT_TIMEOUT.min(self.response_timeout))
            .response_timeout(self.response_timeout)
            .overall_response_timeout(Some(self.response_timeout))
            .retries(REFERRALS);
        let builder = match certificates {
            None => builder,
            Some(certificates) => builder.certs(certificates),
        };
        builder.build()?.get_async_connection().await.map(Connection::Cluster)
    }

    fn connection_address(&self) -> RedisResult<ConnectionAddr> {
        let parts = self.address.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{:?} is not host:port", self.address))
        })?;
        let host = host.to_owned();
        Ok(match self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        })
    }

    /// The failure of a worker that an error of Redis causes.
    pub fn failure(&self, error: &RedisError) -> Failure {
        let told = first_of_pipeline(error);
        let message = format!("Redis {}: {told}", self.address);
        if error.kind() == redis::ErrorKind::AuthenticationFailed {
            return Failure::transient(
                Reason::OnlineStoreUnreachable,
                format!("{message}; correct the user and the password in the FeatureStore and its Secret"),
            );
        }
        match code(error).as_deref() {
            // The server answers, and trying again may find it with more memory, or writable.
            Some("OOM") => Failure::transient(
                Reason::WorkerFailed,
                format!("{message}; a view needs room for two generations: give Redis more memory"),
            ),
            Some("MOVED" | "ASK" | "CROSSSLOT") => Failure::transient(
                Reason::OnlineStoreUnreachable,
                format!("{message}; it is a cluster: set spec.redis.existing.cluster of the FeatureStore"),
            ),
            Some("NOPERM") => Failure::transient(
                Reason::WorkerFailed,
                format!("{message}; allow the user all commands on the keys mlop:*"),
            ),
            Some(_) => Failure::transient(Reason::WorkerFailed, message),
            None => Failure::transient(Reason::OnlineStoreUnreachable, message),
        }
    }
}

/// The server's word for its error, of the first one in a pipeline.
pub fn code(error: &RedisError) -> Option<String> {
    let errors = error.clone().into_server_errors();
    errors.and_then(|errors| Some(errors.first()?.1.code().to_owned()))
}

/// A pipeline in which all commands fail has a message for each: the first one says why.
fn first_of_pipeline(error: &RedisError) -> String {
    let errors = error.clone().into_server_errors();
    match errors.as_deref() {
        Some([(_, first), _, ..]) => first.to_string(),
        _ => error.to_string(),
    }
}
