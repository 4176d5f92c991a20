//! Forwarding of Services to addresses of this machine, for clusters whose cluster IPs it cannot reach, such as kind's.
//!
//! As with a cluster IP, new connections are distributed over the pods that are ready.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{core::v1::ServicePort, discovery::v1::EndpointSlice};
use kube::{Api, Client};
use kubectl_mlop::cluster::forward::ready_pods;
use std::{collections::HashMap, net::SocketAddr, process::Stdio, sync::Arc};
use tokio::{
    io::{self, AsyncBufReadExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::Mutex,
};

/// The Services that this process forwards.
#[derive(Default)]
pub struct PortForwards(Mutex<HashMap<(String, String, i32), SocketAddr>>);

impl PortForwards {
    /// The address of this machine that is forwarded to a port of a Service until this process ends.
    ///
    /// # Errors
    /// No port of this machine is free.
    pub async fn address(
        &self,
        client: &Client,
        namespace: &str,
        service: &str,
        port: &ServicePort,
    ) -> Result<SocketAddr> {
        let mut known = self.0.lock().await;
        let key = (namespace.to_owned(), service.to_owned(), port.port);
        if let Some(address) = known.get(&key) {
            return Ok(*address);
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port on this machine")?;
        let address = listener.local_addr()?;
        let forward = Forward {
            slices: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: port.name.clone().unwrap_or_default(),
            tunnels: Mutex::default(),
        };
        tokio::spawn(Arc::new(forward).serve(listener));
        known.insert(key, address);
        Ok(address)
    }
}

struct Forward {
    slices: Api<EndpointSlice>,
    namespace: String,
    service: String,
    /// The name of the Service's port; can be empty if it is the only one.
    port: String,
    tunnels: Mutex<Tunnels>,
}

#[derive(Default)]
struct Tunnels {
    by_pod: HashMap<String, Tunnel>,
    /// The number of connections, for round robin.
    turn: usize,
}

/// A `kubectl port-forward` to one pod. It ends with the pod.
struct Tunnel {
    kubectl: Child,
    address: SocketAddr,
}

impl Forward {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let forward = self.clone();
            tokio::spawn(async move {
                // The client's connection ends, as it does if no process listens in the pod.
                if let Err(error) = forward.connect(client).await {
                    eprintln!("Service {}/{}: {error:#}", forward.namespace, forward.service);
                }
            });
        }
    }

    async fn connect(&self, mut client: TcpStream) -> Result<()> {
        let mut server = TcpStream::connect(self.tunnel().await?).await?;
        // An abrupt end of one side ends the other, which is the desired effect.
        copy_bidirectional(&mut client, &mut server).await.ok();
        Ok(())
    }

    /// The local address of the tunnel to the next ready pod.
    async fn tunnel(&self) -> Result<SocketAddr> {
        let ready = ready_pods(&self.slices, &self.service, &self.port).await?;
        let mut tunnels = self.tunnels.lock().await;
        tunnels.turn = tunnels.turn.wrapping_add(1);
        let next = tunnels.turn.checked_rem(ready.len()).and_then(|turn| ready.get(turn));
        let (pod, port) = next.context("no pod is ready")?;
        if let Some(tunnel) = tunnels.by_pod.get_mut(pod)
            && tunnel.kubectl.try_wait()?.is_none()
        {
            return Ok(tunnel.address);
        }
        let tunnel = Tunnel::open(&self.namespace, pod, *port).await?;
        let address = tunnel.address;
        tunnels.by_pod.insert(pod.clone(), tunnel);
        Ok(address)
    }
}

impl Tunnel {
    async fn open(namespace: &str, pod: &str, port: i32) -> Result<Self> {
        let mut kubectl = Command::new("kubectl")
            .args(["--namespace", namespace, "port-forward", "--address=127.0.0.1"])
            .args([format!("pod/{pod}"), format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl: is it on the PATH? (`eval \"$(cargo xtask cluster env)\"`)")?;
        let mut output =
            BufReader::new(kubectl.stdout.take().context("kubectl has no standard output")?).lines();
        let line = output.next_line().await?;
        let Some(address) = line.as_deref().and_then(local_address) else {
            bail!("unexpected output of kubectl port-forward to the pod {pod}: {line:?}");
        };
        // kubectl prints a line for each connection, and blocks if the pipe is full.
        tokio::spawn(async move { io::copy(output.get_mut(), &mut io::sink()).await });
        Ok(Self { kubectl, address })
    }
}

/// The address in kubectl's first line, `Forwarding from 127.0.0.1:40123 -> 8080`.
fn local_address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("Forwarding from ")?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_address_is_read_from_kubectl_output() {
        let line = "Forwarding from 127.0.0.1:40123 -> 8080";
        assert_eq!(local_address(line), Some(SocketAddr::from(([127, 0, 0, 1], 40123))));
        assert_eq!(local_address("error: unable to forward port"), None);
    }
}
