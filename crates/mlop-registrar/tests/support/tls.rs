//! TLS with the certificate of `tls/`, Secrets, and a gateway in front of a server.

use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// The authority that has signed the certificate.
pub const CA: &str = include_str!("../tls/ca.crt");

/// Accepts connections to `localhost`.
pub fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../tls/server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()))
}

/// A mounted Secret with these keys.
pub fn secret(keys: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (key, value) in keys {
        std::fs::write(directory.path().join(key), value).unwrap();
    }
    directory
}

/// Starts a gateway that forwards requests below `/team`, with one of the `logins` (values of the header
/// `authorization`), to the server at `upstream` (`http://host:port`). Returns its address.
pub async fn gateway(upstream: &str, logins: &'static [&'static str]) -> String {
    let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}/team", listener.local_addr().unwrap().port());
    let acceptor = acceptor();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut client) = acceptor.accept(socket).await else { return };
                let (mut head, mut rest) = read_head(&mut client).await;
                let is_known =
                    logins.iter().any(|login| head.contains(&format!("authorization: {login}\r\n")));
                if !is_known || !head.contains(" /team/") {
                    let refusal =
                        "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    client.write_all(refusal.as_bytes()).await.unwrap();
                    return client.shutdown().await.unwrap_or_default();
                }
                head = head.replacen(" /team/", " /", 1);
                let host = head.lines().find(|line| line.starts_with("host:")).unwrap().to_owned();
                head = head.replacen(&host, &format!("host: {upstream}\r\nconnection: close"), 1);
                let mut server = TcpStream::connect(&upstream).await.unwrap();
                server.write_all(head.as_bytes()).await.unwrap();
                server.write_all(&std::mem::take(&mut rest)).await.unwrap();
                let _closed = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// The head of a request with its empty line, and the bytes after it that came along.
async fn read_head(client: &mut (impl AsyncReadExt + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), rest);
        }
        let mut chunk = [0; 4 << 10];
        match client.read(&mut chunk).await {
            Ok(0) | Err(_) => return (String::new(), Vec::new()),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}
