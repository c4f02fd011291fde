//! Tokens: token files, the rights of each role, and addresses that need no token.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use super::*;

const READ: &str = "read-0123456789abcdefghij";
const CHANGE: &str = "change-0123456789abcdefghij";
const ADMIN: &str = "admin-0123456789abcdefghij";

fn tokens() -> Tokens {
    Tokens::parse(&format!(
        "# of the operators\n\nread {READ}\n  change\t{CHANGE}  \nadmin {ADMIN} Ada of the operators\n"
    ))
    .unwrap()
}

fn access() -> Access {
    Access::Tokens(Arc::new(TokenStore::new(tokens())))
}

#[test]
fn each_token_allows_its_role_and_no_more() {
    let access = access();
    let ask = |header: &str, role| access.allow(Some(header.as_bytes()), role).map(drop);
    let (needs_change, needs_admin) =
        (Err(AccessDenied::Needs(Role::Change)), Err(AccessDenied::Needs(Role::Admin)));
    let (unknown, none) = (Err(AccessDenied::UnknownToken), Err(AccessDenied::NoToken));
    for (header, allowed) in [
        (format!("Bearer {READ}"), [Ok(()), needs_change, needs_admin]),
        (format!("bearer  {READ}"), [Ok(()), needs_change, needs_admin]),
        (format!("Bearer {CHANGE}"), [Ok(()), Ok(()), needs_admin]),
        (format!("Bearer {ADMIN}"), [Ok(()); 3]),
        (format!("Bearer {READ}x"), [unknown; 3]),
        (format!("Bearer {}", &CHANGE[..25]), [unknown; 3]),
        ("Bearer ".to_owned(), [unknown; 3]),
        (format!("Basic {CHANGE}"), [none; 3]),
        (CHANGE.to_owned(), [none; 3]),
        (String::new(), [none; 3]),
    ] {
        let found = [Role::Read, Role::Change, Role::Admin].map(|role| ask(&header, role));
        assert_eq!(found, allowed, "{header}");
    }
    assert_eq!(access.allow(None, Role::Read), Err(AccessDenied::NoToken));
}

#[test]
fn without_tokens_no_caller_is_the_administrator() {
    for access in [Access::Loopback, Access::Open] {
        assert!(access.allow(None, Role::Change).is_ok());
        assert_eq!(access.allow(None, Role::Admin), Err(AccessDenied::NeedsSocket));
        let header = format!("Bearer {ADMIN}");
        assert_eq!(access.allow(Some(header.as_bytes()), Role::Admin), Err(AccessDenied::NeedsSocket));
    }
}

#[test]
fn callers_are_logged_by_name_or_by_the_start_of_a_digest() {
    let principal = |token: &str| {
        access().allow(Some(format!("Bearer {token}").as_bytes()), Role::Read).unwrap().to_string()
    };
    assert_eq!(principal(ADMIN), "Ada of the operators (admin)");
    let unnamed = principal(CHANGE);
    assert!(unnamed.starts_with("change token ") && unnamed.len() == "change token ".len() + 8, "{unnamed}");
}

#[test]
fn replaced_tokens_are_refused_from_then_on() {
    let store = Arc::new(TokenStore::new(tokens()));
    let access = Access::Tokens(store.clone());
    let bearer = |token: &str| format!("Bearer {token}").into_bytes();
    let new = "another-0123456789abcdefghij";
    store.replace(Tokens::parse(&format!("change {new}")).unwrap());
    assert_eq!(access.allow(Some(&bearer(CHANGE)), Role::Read), Err(AccessDenied::UnknownToken));
    assert!(access.allow(Some(&bearer(new)), Role::Change).is_ok());
}

#[test]
fn only_loopback_needs_no_declaration() {
    for (address, local) in [
        ("127.0.0.1:2000", true),
        ("127.8.9.1:2000", true),
        ("[::1]:2000", true),
        ("[::ffff:127.0.0.1]:2000", true),
        ("0.0.0.0:2000", false),
        ("[::]:2000", false),
        ("10.0.0.1:2000", false),
        ("[::ffff:10.0.0.1]:2000", false),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(Access::Loopback.check(address).is_ok(), local, "{address}");
        assert!(Access::Open.check(address).is_ok() && access().check(address).is_ok());
    }
    let error = Access::Loopback.check("0.0.0.0:2000".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("0.0.0.0:2000") && error.contains("without tokens"), "{error}");
}

#[test]
fn errors_in_a_file_name_the_line_and_not_the_token() {
    let line = format!("read {READ}\n");
    for (text, error) in [
        (String::new(), TokensError::None),
        ("# nothing\n".to_owned(), TokensError::None),
        (format!("{line}{CHANGE}\n"), TokensError::Line { line: 2 }),
        (format!("{line}\nwrite {CHANGE}\n"), TokensError::Line { line: 3 }),
        (format!("{line}change {CHANGE} network= Ada\n"), TokensError::Limit { line: 2 }),
        (format!("{line}admin {ADMIN} network=blue Ada\n"), TokensError::Limit { line: 2 }),
        (format!("{line}change short\n"), TokensError::Token { line: 2 }),
        (format!("change {}\n", "x".repeat(513)), TokensError::Token { line: 1 }),
        (format!("{line}change {READ}\n"), TokensError::Twice { line: 2 }),
        ((0..65).map(|i| format!("read {READ}{i}\n")).collect(), TokensError::TooMany),
    ] {
        let found = Tokens::parse(&text).unwrap_err();
        assert_eq!(found, error, "{text}");
        assert!(!found.to_string().contains("0123456789abcdefghij"), "{found}");
    }
}

#[test]
fn tokens_do_not_show() {
    let shown = format!("{:?} {:?}", tokens(), access());
    assert!(!shown.contains("0123456789") && !shown.contains("[1"), "{shown}");
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "read {READ}").unwrap();
    let read = |mode| {
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        read_token_file(file.path()).map_err(|error| error.to_string())
    };
    for mode in [0o400, 0o600, 0o640, 0o644] {
        assert!(read(mode).is_ok(), "{mode:o}");
    }
    for mode in [0o620, 0o602, 0o666] {
        let error = read(mode).unwrap_err();
        assert!(error.contains("chmod 600") && !error.contains(READ), "{mode:o}: {error}");
    }
    let error = read_token_file(Path::new("/nowhere/tokens")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the HTTP token file /nowhere/tokens: "), "{error}");
}
