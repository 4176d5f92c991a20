//! Connections to Redis.

use mlop_api::{Reason, result::Failure};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, aio::MultiplexedConnection,
};
use std::{io, path::PathBuf, time::Duration};

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Redis is and how to get in.
#[derive(Clone, Debug)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// File with the password. Read at every connect, since a Secret's file follows the Secret.
    pub password_file: Option<PathBuf>,
    /// Longest time of one request.
    pub response_timeout: Duration,
}

impl Server {
    /// # Errors
    /// When the address cannot be used, the password not be read, or Redis does not answer or let us in.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut login = RedisConnectionInfo::default();
        if let Some(file) = &self.password_file {
            let password = std::fs::read_to_string(file).map_err(|error| {
                io::Error::new(error.kind(), format!("reading the password {}: {error}", file.display()))
            })?;
            login = login.set_password(password.trim_end_matches(['\r', '\n']));
        }
        let address = self.tcp_address()?.into_connection_info()?.set_redis_settings(login);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT.min(self.response_timeout)))
            .set_response_timeout(Some(self.response_timeout));
        Client::open(address)?.get_multiplexed_async_connection_with_config(&config).await
    }

    fn tcp_address(&self) -> RedisResult<ConnectionAddr> {
        let parts = self.address.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{:?} is not host:port", self.address))
        })?;
        Ok(ConnectionAddr::Tcp(host.to_owned(), port))
    }

    /// What an error of Redis means for a worker.
    pub fn failure(&self, error: &RedisError) -> Failure {
        let message = format!("Redis {}: {error}", self.address);
        if error.kind() == redis::ErrorKind::AuthenticationFailed {
            return Failure::transient(
                Reason::OnlineStoreUnreachable,
                format!("{message}; correct the password in the FeatureStore's Secret"),
            );
        }
        match error.code() {
            // The server answers, and trying again may find it with more memory, or writable.
            Some("OOM") => Failure::transient(
                Reason::WorkerFailed,
                format!("{message}; a view needs room for two generations: give Redis more memory"),
            ),
            Some(_) => Failure::transient(Reason::WorkerFailed, message),
            None => Failure::transient(Reason::OnlineStoreUnreachable, message),
        }
    }
}
