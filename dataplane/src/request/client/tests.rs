use super::*;

fn trusted(networks: &[&str]) -> TrustedProxies {
    TrustedProxies(networks.iter().map(|network| network.parse().unwrap()).collect())
}

fn chain(values: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn the_client_is_the_last_one_whom_no_known_proxy_is() {
    let proxies = trusted(&["10.0.0.0/8", "fd00::/8"]);
    for (peer, values, client) in [
        ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
        ("fd00::1", vec!["2001:db8::5"], "2001:db8::5"),
        ("10.0.0.1", vec!["203.0.113.9, 198.51.100.7, 10.1.1.1"], "198.51.100.7"),
        ("10.0.0.1", vec!["203.0.113.9", "198.51.100.7", "10.1.1.1"], "198.51.100.7"),
        ("10.0.0.1", vec!["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        ("10.0.0.1", vec!["198.51.100.7, unknown, 10.1.1.1"], "10.1.1.1"),
        ("10.0.0.1", vec![], "10.0.0.1"),
    ] {
        let peer = Peer::new(peer.parse().unwrap(), &proxies, false);
        assert_eq!(peer.client(&chain(&values), &proxies), client, "{values:?}");
    }
}

#[test]
fn only_a_known_proxys_chain_is_kept() {
    let proxies = trusted(&["10.0.0.0/8"]);
    let mut came = chain(&["198.51.100.7", "10.1.1.1"]);
    came.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    came.insert("x-forwarded-port", HeaderValue::from_static("8443"));
    let host = || Some(HeaderValue::from_static("argocd.example.com"));
    let told = |peer: &str| {
        let mut headers = HeaderMap::new();
        Forwarded::read(&Peer::new(peer.parse().unwrap(), &proxies, false), &came, host()).write(&mut headers);
        headers
    };
    let known = told("10.0.0.1");
    assert_eq!(known[X_FORWARDED_FOR], "198.51.100.7, 10.1.1.1, 10.0.0.1");
    assert_eq!(
        (&known[X_FORWARDED_PROTO], &known["x-forwarded-port"]),
        (&"https".parse().unwrap(), &"8443".parse().unwrap())
    );
    assert_eq!(known[X_FORWARDED_HOST], "argocd.example.com");
    let unknown = told("192.0.2.1");
    assert_eq!(unknown[X_FORWARDED_FOR], "192.0.2.1");
    assert_eq!(unknown[X_FORWARDED_PROTO], "http");
    assert!(!unknown.contains_key("x-forwarded-port"));
}
