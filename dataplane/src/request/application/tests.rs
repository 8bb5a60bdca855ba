use super::*;

#[test]
fn names_are_those_that_kubernetes_permits() {
    let long = "a".repeat(63);
    for name in ["a", "0", "a-b", "guestbook-1", "a.b", "a-1.b-2.c", long.as_str()] {
        assert!(is_dns_subdomain(name), "{name}");
        assert_eq!(is_dns_label(name), !name.contains('.'), "{name}");
    }
    for name in ["", "-", ".", "-a", "a-", "a.", ".a", "a..b", "a.-b", "a-.b", "A", "a_b", "a b", "ä", "a:b", "a/b"] {
        assert!(!is_dns_subdomain(name) && !is_dns_label(name), "{name}");
    }
    assert!(!is_dns_label(&"a".repeat(64)));
    assert!(is_dns_subdomain(&"a".repeat(253)) && !is_dns_subdomain(&"a".repeat(254)));
}
