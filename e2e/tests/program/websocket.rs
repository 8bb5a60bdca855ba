use std::time::Duration;

use e2e::token::TokenSpec;
use e2e::websocket::{SOON, lives, open, receive};
use e2e::world::World;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_carries_the_identity_and_echoes() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    let forged = [("argocd-username", "root"), ("sec-websocket-protocol", "v1.echo")];
    let mut socket = open(program.address, "/extensions/httpbin/ws", &token, &forged).await.unwrap();
    let Some(Message::Text(first)) = receive(&mut socket).await else { panic!("no first message") };
    let headers: Vec<(String, String)> = serde_json::from_str(&first).unwrap();
    let values = |wanted: &str| -> Vec<&str> {
        headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.as_str()).collect()
    };
    assert_eq!(values("argocd-username"), ["alice"]);
    assert_eq!(values("sec-websocket-protocol"), ["v1.echo"]);
    assert_eq!(values("connection").join(",").to_ascii_lowercase(), "upgrade");
    assert!(values("cookie").is_empty());
    for size in [0, 5, 100_000, 5_000_000] {
        let message = Message::binary(vec![b'z'; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(receive(&mut socket).await, Some(message), "{size} bytes");
    }
    socket.close(None).await.unwrap();
    assert!(matches!(receive(&mut socket).await, Some(Message::Close(_)) | None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_authorized_like_any_request() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = world.token().unwrap();
    for (path, token, status) in [
        ("/extensions/secretive/ws", token.as_str(), 401),
        ("/extensions/httpbin/ws", "not.a.token", 401),
        ("/extensions/unknown/ws", token.as_str(), 404),
        ("/extensions/down/ws", token.as_str(), 502),
    ] {
        match open(program.address, path, token, &[]).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), status, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert_eq!(world.a.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_when_it_would_be_refused_and_not_before() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let alice = world.token().unwrap();
    let pat = TokenSpec::oidc().mint(&world.provider).unwrap();
    let mut of_alice = open(program.address, "/extensions/httpbin/ws", &alice, &[]).await.unwrap();
    let mut of_pat = open(program.address, "/extensions/httpbin/ws", &pat, &[]).await.unwrap();
    receive(&mut of_alice).await.unwrap();
    receive(&mut of_pat).await.unwrap();

    world.write_extension("another", &world.a.url(), "").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(lives(&mut of_alice).await && lives(&mut of_pat).await);

    world.forbid_alice("httpbin").unwrap();
    let end = timeout(SOON, of_alice.next()).await.expect("alice's WebSocket lives on");
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
    assert!(lives(&mut of_pat).await);
    program.wait_for_log("closed a stream").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_token() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let token = TokenSpec::local().claim("exp", "+2").mint(&world.provider).unwrap();
    let mut socket = open(program.address, "/extensions/httpbin/ws", &token, &[]).await.unwrap();
    receive(&mut socket).await.unwrap();
    assert!(lives(&mut socket).await);
    let end = timeout(SOON, socket.next()).await.expect("it lives on");
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_protocol_is_upgraded_to() {
    use e2e::client::{Request, send};
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let request = Request::signed_in("/extensions/httpbin/x", &world.token().unwrap())
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    let seen = send(program.address, request).await.unwrap().seen().unwrap();
    let headers = seen["headers"].to_string().to_ascii_lowercase();
    assert!(!headers.contains("upgrade") && !headers.contains("http2-settings"), "{headers}");
    assert_eq!(seen.get("method"), Some(&Value::from("GET")));
}
