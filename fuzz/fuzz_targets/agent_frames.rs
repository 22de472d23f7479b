//! The guest link: any bytes, as they come, to either side.
//!
//! The first byte says how the rest is used: as the stream itself, or as the content of a whole frame, which a
//! checksum would otherwise keep the fuzzer from ever making.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tine_agent::{
    frame::{self, Decoder},
    message::{GuestMessage, HostMessage, Order},
    processes,
};

fuzz_target!(|input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else { return };
    match mode % 4 {
        0 => stream(bytes, usize::from(*mode) + 1),
        1 => payload(bytes),
        2 => drop((Order::parse(bytes), processes::parse_list(bytes))),
        _ => framed(bytes),
    }
});

/// Whatever comes, a whole frame after a zero byte arrives.
fn stream(bytes: &[u8], piece: usize) {
    let mut decoder = Decoder::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(content) = decoder.next(&mut piece) {
            payload(content);
        }
    }
    let mut last = vec![frame::END];
    frame::append(&mut last, &[b"whole"]).expect("it is small");
    let (mut rest, mut found) = (last.as_slice(), Vec::new());
    while let Some(content) = decoder.next(&mut rest) {
        found.push(content.to_vec());
    }
    assert_eq!(found.last().map(Vec::as_slice), Some(&b"whole"[..]));
}

/// What is understood is said the same way again.
fn payload(bytes: &[u8]) {
    if let Ok(message) = HostMessage::parse(bytes) {
        let mut out = Vec::new();
        message.append(&mut out).expect("what came in a frame fits one");
        let mut decoder = Decoder::new();
        let again = decoder.next(&mut out.as_slice()).map(HostMessage::parse);
        assert_eq!(again.expect("a frame").expect("a message"), message);
    }
    if let Ok(message) = GuestMessage::parse(bytes) {
        let mut out = Vec::new();
        message.append(&mut out).expect("what came in a frame fits one");
        let mut decoder = Decoder::new();
        let again = decoder.next(&mut out.as_slice()).map(GuestMessage::parse);
        assert_eq!(again.expect("a frame").expect("a message"), message);
    }
}

/// What fits a frame comes out of it.
fn framed(bytes: &[u8]) {
    let mut out = Vec::new();
    match frame::append(&mut out, &[bytes]) {
        Ok(()) => assert_eq!(Decoder::new().next(&mut out.as_slice()), Some(bytes)),
        Err(_) => assert!(bytes.len() > frame::MAX_PAYLOAD && out.is_empty()),
    }
}
