use http::HeaderValue;

use super::*;

fn of(cookies: &[&str]) -> Result<String, Refusal> {
    let mut headers = HeaderMap::new();
    for cookie in cookies {
        headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
    }
    token(&headers).map(Cow::into_owned)
}

#[test]
fn whole_quoted_and_among_others() {
    assert_eq!(of(&["argocd.token=abc"]).unwrap(), "abc");
    assert_eq!(of(&["a=1; argocd.token=\"abc\"; b=2"]).unwrap(), "abc");
    assert_eq!(of(&["a=1", "argocd.token=x", "argocd.token=abc"]).unwrap(), "abc");
    assert_eq!(of(&["argocd.token="]).unwrap(), "");
}

#[test]
fn beside_cookies_that_are_not_ascii() {
    assert_eq!(of(&["name=Jos\u{e9}; argocd.token=abc; caf\u{e9}=1"]).unwrap(), "abc");
    assert_eq!(of(&["argocd.token=abc; argocd.token=d\u{e9}f"]).unwrap(), "abc");
    assert_eq!(of(&["argocd.token=\u{e9}"]), Err(Refusal::NoCookie));
}

#[test]
fn chunks_are_joined_in_their_order_wherever_they_stand() {
    assert_eq!(of(&["argocd.token-2=c; argocd.token=3:a", "argocd.token-1=b"]).unwrap(), "abc");
    assert_eq!(of(&["argocd.token=3:a; argocd.token-2=c"]).unwrap(), "ac");
    assert_eq!(of(&["argocd.token=1:a; argocd.token-1=b"]).unwrap(), "a");
    assert_eq!(of(&["argocd.token=-5:a"]).unwrap(), "a");
}

#[test]
fn a_huge_count_costs_nothing() {
    assert_eq!(of(&["argocd.token=9223372036854775807:a; argocd.token-1=b"]).unwrap(), "ab");
    assert_eq!(of(&["argocd.token=9223372036854775808:a"]), Err(Refusal::NoCookie));
}

#[test]
fn what_is_no_cookie_of_ours() {
    for cookies in
        [&[][..], &["x=1"], &["argocd-token=a"], &["argocd.token=x:y"], &["argocd.token=1:2:3"], &["argocd.token=a\\b"]]
    {
        assert_eq!(of(cookies), Err(Refusal::NoCookie), "{cookies:?}");
    }
}
