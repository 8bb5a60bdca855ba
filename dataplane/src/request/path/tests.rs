use super::*;

fn parsed(root: &str, path: &str) -> (String, String) {
    let parsed = ExtensionPath::parse(root, path).unwrap();
    (parsed.name.to_string(), at_backend("", parsed.rest).unwrap().to_string())
}

#[test]
fn the_rest_is_kept_byte_for_byte() {
    for (path, rest) in [
        ("/extensions/a", "/"),
        ("/extensions/a/", "/"),
        ("/extensions/a?x=1", "/?x=1"),
        ("/extensions/a/b%2Fc?d=%2e%2e/;&", "/b%2Fc?d=%2e%2e/;&"),
        ("/extensions/a/b;v=1/!$&'()*+,=:@", "/b;v=1/!$&'()*+,=:@"),
        ("/extensions/a/x?", "/x?"),
    ] {
        assert_eq!(parsed("", path), ("a".into(), rest.into()), "{path}");
    }
}

#[test]
fn the_root_path_and_the_base_path_count() {
    assert_eq!(parsed("argo/cd", "/argo/cd/extensions/a/b"), ("a".into(), "/b".into()));
    assert_eq!(ExtensionPath::parse("argo", "/extensions/a"), Err(Refusal::NoSuchPath));
    assert_eq!(ExtensionPath::parse("", "/extensionsfoo/a"), Err(Refusal::NoSuchPath));
    let path = ExtensionPath::parse("", "/extensions/a?x").unwrap();
    assert_eq!(at_backend("/base", path.rest).unwrap().to_string(), "/base/?x");
}

#[test]
fn encoded_dot_segments_are_refused() {
    for rest in ["%2e%2e/x", "x/%2e", ".%2E/x", "x%2f..%2fy", "a\\..\\b", "..;/x", "x/%2e%2e;v=1/y"] {
        let path = format!("/extensions/a/{rest}");
        assert!(matches!(ExtensionPath::parse("", &path), Err(Refusal::Path(_))), "{path}");
    }
    for rest in ["a..b", "...", "%2e%2e%2e", "a;..", "%252e%252e"] {
        assert!(ExtensionPath::parse("", &format!("/extensions/a/{rest}")).is_ok(), "{rest}");
    }
}

#[test]
fn broken_escapes_are_refused_in_the_path_only() {
    assert!(ExtensionPath::parse("", "/extensions/a/%zz").is_err());
    assert!(ExtensionPath::parse("", "/extensions/%").is_err());
    assert!(ExtensionPath::parse("", "/extensions/a?%zz").is_ok());
}

#[test]
fn unclean_paths_are_redirected_with_their_query() {
    for (path, location) in [
        ("/extensions", "/extensions/"),
        ("/extensions?a=b", "/extensions/?a=b"),
        ("/extensions//a/b", "/extensions/a/b"),
        ("//extensions/a", "/extensions/a"),
        ("/extensions/a/./b/../c/", "/extensions/a/c/"),
        ("/extensions/a/../../extensions/b?x//y", "/extensions/b?x//y"),
        ("/extensions/a/..", "/extensions/"),
    ] {
        assert_eq!(redirect("", path).as_deref(), Some(location), "{path}");
    }
    assert_eq!(redirect("argo", "/argo/extensions//a").as_deref(), Some("/argo/extensions/a"));
    for path in [
        "/extensions/a",
        "/extensions/a/",
        "/",
        "/api//v1",
        "/extensions/..",
        "/extensions/a?b//c",
        "/extensions/a/%2e%2e",
    ] {
        assert_eq!(redirect("", path), None, "{path}");
    }
}
