//! A Redis of its own for one test.

use super::Scratch;
use mlop_features::online::connection::{Connection, Server, Tls};
use std::{
    io::ErrorKind,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A redis-server on a loopback port, with an empty directory; ended when dropped.
pub struct TestRedis {
    process: Child,
    port: u16,
    scratch: Scratch,
    tls: Option<Tls>,
}

/// With all that a shell, a URL, a configuration file or Kubernetes might take for its own.
pub const PASSWORD: &str = "p@ss w#rd\"'$(HOME)%/:ø";

impl TestRedis {
    /// As [`start`](Self::start), with further settings.
    pub async fn start_with(settings: &[&str]) -> Option<Self> {
        let scratch = Scratch::new();
        Self::spawn(scratch, None, settings).await
    }

    /// Starts one that speaks TLS only, with a certificate of an authority of its own.
    pub async fn start_tls() -> Option<Self> {
        let scratch = Scratch::new();
        certify(scratch.path())?;
        let ca_file = Some(scratch.path().join("ca.crt"));
        Self::spawn(scratch, Some(Tls { ca_file }), &[]).await
    }

    /// Starts one, or reports that the test is skipped because there is no redis-server; in CI that is a failure.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    async fn spawn(scratch: Scratch, tls: Option<Tls>, settings: &[&str]) -> Option<Self> {
        // Free when asked. If another process takes it meanwhile, the start fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        match &tls {
            None => command.args(["--port", &port.to_string()]),
            Some(_) => command
                .args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"])
                .args(["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"])
                .args(["--tls-ca-cert-file", "ca.crt"])
                .current_dir(scratch.path()),
        };
        let spawned = command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", PASSWORD, "--dir"])
            .arg(scratch.path())
            .args(settings)
            .stdout(Stdio::null())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "this test needs redis-server: install the package redis-server"
                );
                eprintln!("left out: no redis-server here; install the package redis-server");
                return None;
            }
            Err(error) => panic!("starting redis-server: {error}"),
        };
        std::fs::write(scratch.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        let mut redis = Self { process, port, scratch, tls };
        redis.wait().await;
        Some(redis)
    }

    async fn wait(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.server().connect().await.is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "redis-server ended at once");
            assert!(tokio::time::Instant::now() < deadline, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts a cluster of three, each with a third of the slots.
    pub async fn start_cluster() -> Option<[Self; 3]> {
        let mut nodes = Vec::new();
        for slots in [["0", "5460"], ["5461", "10922"], ["10923", "16383"]] {
            let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let node = Self::start_with(&settings).await?;
            node.run(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]).await;
            nodes.push((node, bus));
        }
        let [(first, _), others @ ..] = nodes.as_slice() else { return None };
        for (node, bus) in others {
            first.run(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus]).await;
        }
        let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
        for node in &nodes {
            node.until_info("CLUSTER", "INFO", &["cluster_state:ok", "cluster_known_nodes:3"]).await;
        }
        nodes.try_into().ok()
    }

    /// Waits until the answer to a command has all `words`.
    async fn until_info(&self, name: &str, arg: &str, words: &[&str]) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let mut redis = self.connect().await;
            let info: String = redis::cmd(name).arg(arg).query_async(&mut redis).await.unwrap();
            if words.iter().all(|word| info.contains(word)) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn server(&self) -> Server {
        Server {
            address: self.address(),
            user: None,
            tls: self.tls.clone(),
            password_file: Some(self.password_file()),
            cluster: false,
            response_timeout: Duration::from_secs(10),
        }
    }

    pub fn address(&self) -> String {
        let host = if self.tls.is_some() { "localhost" } else { "127.0.0.1" };
        format!("{host}:{}", self.port)
    }

    pub fn password_file(&self) -> std::path::PathBuf {
        self.scratch.path().join("password")
    }

    pub async fn connect(&self) -> Connection {
        self.server().connect().await.unwrap()
    }

    /// All keys, as text as far as they are.
    pub async fn keys(&self) -> Vec<String> {
        let keys: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg("*").query_async(&mut self.connect().await).await.unwrap();
        let mut keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        keys.sort();
        keys
    }

    /// Runs one command.
    pub async fn run(&self, command: &[&str]) {
        let [name, args @ ..] = command else { return };
        redis::cmd(name).arg(args).exec_async(&mut self.connect().await).await.unwrap();
    }

    pub fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Puts an authority `ca.crt` and a certificate `server.crt` for localhost into `directory`.
fn certify(directory: &std::path::Path) -> Option<()> {
    let openssl = |arguments: &str| {
        Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost").unwrap();
    for arguments in [
        &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca -days 2"),
        &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names",
    ] {
        match openssl(arguments) {
            Ok(status) => assert!(status.success(), "openssl {arguments}"),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "this test needs openssl: {error}");
                eprintln!("skipped: no openssl here");
                return None;
            }
        }
    }
    Some(())
}
