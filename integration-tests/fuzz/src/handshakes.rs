//! What a stranger can say to a transport before it is known: certificates and introductions.

use std::sync::LazyLock;

use transport::fuzzing::{Door, introduces};

use crate::input::Input;

/// Shows a door certificates like its own and unlike it; panics if one opens it that names somebody else.
pub fn run(bytes: &[u8]) {
    static DOOR: LazyLock<Door> = LazyLock::new(|| Door::new("the-one-and-only"));
    let mut input = Input::new(bytes);
    let how = input.byte();
    if how % 4 == 0 {
        introduces(input.rest());
        return;
    }
    let own = DOOR.certificate().to_vec();
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
    let whose = DOOR.whose(&shown, intermediates, how & 4 == 0);
    assert!(
        whose.is_none_or(|name| name.as_str() == "the-one-and-only"),
        "somebody else's name opens the door"
    );
    assert!(DOOR.whose(&own, &[], true).is_some(), "its own certificate opens it");
}
