//! WebSockets through the proxy, with a real client.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

pub const SOON: Duration = Duration::from_secs(5);

/// Opens one for the application `argocd:guestbook`.
pub async fn open(
    to: SocketAddr,
    path: &str,
    token: &str,
    more: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{to}{path}").into_client_request()?;
    let cookie = format!("argocd.token={token}");
    let headers = [
        ("cookie", cookie.as_str()),
        ("argocd-application-name", "argocd:guestbook"),
        ("argocd-project-name", "default"),
    ];
    for (name, value) in headers.iter().chain(more) {
        request.headers_mut().insert(*name, value.parse()?);
    }
    let stream = TcpStream::connect(to).await?;
    client_async(request, stream).await.map(|(socket, _)| socket)
}

/// The next message; none where it ended, or where none came soon.
pub async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    timeout(SOON, socket.next()).await.ok().flatten().and_then(Result::ok)
}

/// Whether it still echoes.
pub async fn lives(socket: &mut WebSocketStream<TcpStream>) -> bool {
    socket.send("still there?".into()).await.is_ok() && receive(socket).await == Some("still there?".into())
}
