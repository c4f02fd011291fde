//! What a stranger can say to a transport before it is known: certificates and introductions.

use std::sync::LazyLock;

use transport::fuzzing::{CertificateCheck, decodes_as_introduction};

use crate::input::Input;

/// Shows a certificate check valid and invalid certificates; panics if it accepts one for another name.
pub fn run(bytes: &[u8]) {
    static CHECK: LazyLock<CertificateCheck> = LazyLock::new(|| CertificateCheck::new("the-one-and-only"));
    let mut input = Input::new(bytes);
    let how = input.byte();
    if how % 4 == 0 {
        decodes_as_introduction(input.rest());
        return;
    }
    let own = CHECK.certificate().to_vec();
    let shown = match how % 4 {
        1 => input.change(own.clone()),
        2 => {
            // A part of its own, put elsewhere: lengths and types fit more often than by chance.
            let (mut shown, from, to) = (own.clone(), input.below(own.len()), input.below(own.len()));
            let length = input.below(64).min(own.len() - from.max(to));
            shown.splice(to..to + length, own[from..from + length].iter().copied());
            shown
        }
        _ => input.bytes().to_vec(),
    };
    let other = input.bytes();
    let intermediates = if other.is_empty() { &[][..] } else { &[other] };
    let name = CHECK.name_of(&shown, intermediates, how & 4 == 0);
    assert!(
        name.is_none_or(|name| name.as_str() == "the-one-and-only"),
        "a certificate for another name is accepted"
    );
    assert!(CHECK.name_of(&own, &[], true).is_some(), "its own certificate opens it");
}
