use std::time::Duration;

use e2e::client::{Request, send};
use e2e::jws::Key;
use e2e::program::Program;
use e2e::provider::Provider;
use e2e::tls::Authority;
use e2e::token::TokenSpec;
use e2e::wait;
use e2e::world::World;
use futures_util::future::join_all;
use tokio::net::TcpListener;

async fn call(program: &Program, token: &str) -> u16 {
    send(program.address, Request::signed_in("/extensions/httpbin/x", token)).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_once_however_many_requests_wait() {
    let world = World::start().await.unwrap();
    world.provider.set_delay(Duration::from_millis(200));
    let program = world.serve(&[]).unwrap();
    let tokens: Vec<String> =
        (0..40).map(|i| TokenSpec::oidc().claim("jti", format!("{i}")).mint(&world.provider).unwrap()).collect();
    let answers = join_all(tokens.iter().map(|token| call(&program, token))).await;
    assert_eq!(answers, vec![200; 40]);
    assert_eq!(world.provider.discoveries(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_counts_at_once_and_a_retired_one_no_longer() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let old = TokenSpec::oidc().mint(&world.provider).unwrap();
    assert_eq!(call(&program, &old).await, 200);
    world.provider.add_key("next", Key::rsa().unwrap());
    world.provider.retire("rs256");
    // The keys were just read: another reading must wait a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let new = TokenSpec::oidc().key("next").mint(&world.provider).unwrap();
    assert_eq!(call(&program, &new).await, 200);
    assert_eq!(call(&program, &old).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_cannot_make_the_proxy_flood_the_provider() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let rogue = |i: usize| TokenSpec::oidc().key("rogue").claim("jti", format!("{i}")).mint(&world.provider).unwrap();
    let tokens: Vec<String> = (0..50).map(rogue).collect();
    let started = std::time::Instant::now();
    let answers = join_all(tokens.iter().map(|token| call(&program, token))).await;
    assert_eq!(answers, vec![401; 50]);
    let most = 2 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(world.provider.discoveries() <= most, "{} readings", world.provider.discoveries());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_provider_nobody_new_comes_in_and_it_recovers_by_itself() {
    let mut world = World::start().await.unwrap();
    let address = world.provider.address;
    // Where the provider was nobody listens any more.
    let keys = Provider::start().await.unwrap();
    let token = |world: &World| TokenSpec::oidc().mint(&world.provider).unwrap();
    let before = token(&world);
    world.provider = keys;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let program = world.serve(&[]).unwrap();
    assert_eq!(call(&program, &before).await, 401);
    program.wait_for_log("the identity provider cannot be asked for its keys").await.unwrap();
    // Local accounts do not need it.
    assert_eq!(call(&program, &world.token().unwrap()).await, 200);

    world.provider = Provider::start_on(TcpListener::bind(address).await.unwrap(), None).unwrap();
    let after = token(&world);
    wait::until("the provider's users come in", || async { Ok(call(&program, &after).await == 200) }).await.unwrap();

    // Keys that are known go on counting while it is away.
    world.provider = Provider::start().await.unwrap();
    assert_eq!(call(&program, &after).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_a_certificate_of_its_own_is_trusted_through_root_ca_only() {
    let world = World::start().await.unwrap();
    let authority = Authority::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = Provider::start_on(listener, Some(authority.acceptor().unwrap())).unwrap();
    let token = TokenSpec::oidc().mint(&provider).unwrap();
    let issuer = format!("issuer: {}", world.provider.issuer);
    world.edit("10-config.yaml", |text| text.replace(&issuer, &format!("issuer: {}", provider.issuer))).unwrap();
    let program = world.serve(&[]).unwrap();
    assert_eq!(call(&program, &token).await, 401);

    let certificate = authority.pem().lines().map(|line| format!("      {line}\n")).collect::<String>();
    let issuer = format!("issuer: {}\n", provider.issuer);
    world
        .edit("10-config.yaml", |text| text.replace(&issuer, &format!("{issuer}    rootCA: |\n{certificate}")))
        .unwrap();
    wait::until("the token counts", || async { Ok(call(&program, &token).await == 200) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dex_is_reached_at_its_own_address_and_checked_when_told_to() {
    let world = World::start().await.unwrap();
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = "https://argocd.example.com/api/dex".to_owned();
    let dex = Provider::start_as(issuer, listener, Some(authority.acceptor().unwrap())).unwrap();
    world
        .edit("10-config.yaml", |text| {
            let start = text.find("  oidc.config: |").unwrap();
            let end = text.find("  extension.config: |").unwrap();
            let dex_config = "  dex.config: |\n    connectors: [{type: github, id: github, name: GitHub}]\n";
            let server = format!("  server.dex.server: localhost:{}\n  application.namespaces:", dex.address.port());
            format!("{}{dex_config}{}", &text[..start], &text[end..]).replace("  application.namespaces:", &server)
        })
        .unwrap();
    let program = world.serve(&[]).unwrap();
    let token =
        |id: &str, audience: &str| TokenSpec::oidc().claim("aud", audience).claim("jti", id).mint(&dex).unwrap();
    assert_eq!(call(&program, &token("1", "argo-cd")).await, 200);
    assert_eq!(call(&program, &token("2", "argo-cd-cli")).await, 200);
    assert_eq!(call(&program, &token("3", "argo-test")).await, 401);

    // Told to check the certificate, it needs one to check against, and the right one.
    let strict = |text: String| {
        text.replace("  server.dex.server:", "  server.dex.server.strict.tls: 'true'\n  server.dex.server:")
    };
    world.edit("10-config.yaml", strict).unwrap();
    program.wait_for_log("holds neither ca.crt nor tls.crt").await.unwrap();
    assert_eq!(call(&program, &token("4", "argo-cd")).await, 401);
    let secret = |pem: String| {
        let pem: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: argocd-dex-server-tls}}\nstringData:\n  tls.crt: |\n{pem}"
        )
    };
    world.write("dex-tls.yaml", &secret(other.pem())).unwrap();
    assert_eq!(call(&program, &token("5", "argo-cd")).await, 401);
    world.write("dex-tls.yaml", &secret(authority.pem())).unwrap();
    wait::until("the token counts", || async { Ok(call(&program, &token("6", "argo-cd")).await == 200) })
        .await
        .unwrap();
}
