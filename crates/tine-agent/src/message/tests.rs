//! Every kind of message through a frame and back, and what is none.

use super::*;
use crate::frame::Decoder;
use proptest::prelude::*;
use tine_model::{ExecRequest, WindowSize};

fn controls() -> Vec<HostControl> {
    let identity = Identity {
        wall_clock_ns: u64::MAX,
        entropy: Entropy::new(vec![7; 32]).unwrap(),
        machine_id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        hostname: "child".parse().unwrap(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        resolv_conf: String::new(),
        network: Some(NetworkIdentity {
            mac: "52:54:00:12:34:56".parse().unwrap(),
            address: [10, 0, 0, 2].into(),
            prefix: 24,
            gateway: [10, 0, 0, 1].into(),
        }),
    };
    vec![
        HostControl::Hello { nonce: u64::MAX, protocol: PROTOCOL },
        HostControl::Identity(Box::new(identity)),
        HostControl::SetClock { wall_clock_ns: 1 },
        HostControl::Quiesce { programs: true },
        HostControl::Thaw,
        HostControl::Signal { channel: 1, number: -1 },
        HostControl::Resize { channel: 1, size: WindowSize { rows: 1, columns: 2 } },
        HostControl::Close { channel: u32::MAX },
        HostControl::Shutdown { grace_seconds: 10 },
    ]
}

fn through(append: impl FnOnce(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    append(&mut bytes);
    let (mut decoder, mut rest, mut found) = (Decoder::new(), bytes.as_slice(), Vec::new());
    while let Some(payload) = decoder.next(&mut rest) {
        found.push(payload.to_vec());
    }
    found
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    for control in controls() {
        let sent = HostMessage::Control(control);
        let came = through(|out| sent.append(out).unwrap());
        assert_eq!(HostMessage::parse(&came[0]).unwrap(), sent);
    }
    let (channel, stream) = (0x0102_0304, stream::ERROR);
    let data = Data { channel, stream, bytes: &[0; MAX_DATA] };
    for sent in [
        HostMessage::Data(data),
        HostMessage::Eof(Eof { channel, stream }),
        HostMessage::Credit(Credit { channel, stream, bytes: u32::MAX }),
    ] {
        let came = through(|out| sent.append(out).unwrap());
        assert_eq!(HostMessage::parse(&came[0]).unwrap(), sent);
    }
    let ack =
        GuestControl::HelloAck { nonce: 1, protocol: 1, agent_version: "1".into(), phase: Phase::Booted };
    for sent in [GuestMessage::Control(ack), GuestMessage::Log(b"line\n"), GuestMessage::Data(data)] {
        let came = through(|out| sent.append(out).unwrap());
        assert_eq!(GuestMessage::parse(&came[0]).unwrap(), sent);
    }
}

#[test]
fn a_large_order_goes_in_pieces_and_a_larger_one_not_at_all() {
    let order = |size: usize| {
        let request = ExecRequest::of(vec!["x".repeat(size)]);
        let streams = [Stream::Piped, Stream::Log, Stream::Null];
        Order::Exec(Box::new(ExecOrder { request, env: vec!["A=b".parse().unwrap()], streams }))
    };
    let sent = order(MAX_ORDER - 1000);
    let came = through(|out| sent.append(9, out).unwrap());
    let parts: Vec<OrderPart<'_>> = came
        .iter()
        .map(|payload| match HostMessage::parse(payload).unwrap() {
            HostMessage::Order(part) => part,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(parts.len() > 100 && parts.iter().all(|part| part.channel == 9));
    assert!(parts.iter().rev().skip(1).all(|part| !part.last) && parts.last().unwrap().last);
    let json = parts.iter().map(|part| part.bytes).collect::<Vec<_>>().concat();
    assert_eq!(Order::parse(&json).unwrap(), sent);
    let mut out = Vec::new();
    assert!(order(MAX_ORDER).append(9, &mut out).is_err() && out.is_empty());
}

#[test]
fn nonsense_is_refused() {
    let long = [&[2, 0, 0, 0, 0, 1][..], &vec![0; MAX_DATA + 1]].concat();
    let bad: [&[u8]; 14] = [
        b"",
        b"\0",
        b"\x63",
        b"\x01",
        b"\x01{}",
        b"\x01\"reboot\"",
        br#"{"hello":{"nonce":1,"protocol":1}}"#,
        b"\x01{\"hello\":{\"nonce\":1,\"protocol\":1,\"more\":1}}",
        b"\x01{\"hello\":{\"nonce\":-1,\"protocol\":1}}",
        b"\x02\0\0\0\0\x01",
        b"\x03\0\0\0\0\x01x",
        b"\x04\0\0\0\0\x01\0\0\0\0",
        b"\x06\0\0\0\0\x02x",
        &long,
    ];
    for payload in bad {
        assert!(HostMessage::parse(payload).is_err(), "{payload:?}");
        assert!(GuestMessage::parse(payload).is_err(), "{payload:?}");
    }
}

#[test]
fn a_guests_words_are_cut_and_cannot_move_the_cursor() {
    let text = GuestText::from(format!("\u{1b}[2J{}", "é".repeat(5000)));
    assert_eq!((text.to_string().chars().count(), text.to_string().starts_with("?[2J")), (1024, true));
    let json = "\x01{\"boot\":{\"message\":\"a\\nb\"}}";
    let GuestMessage::Control(GuestControl::Boot { message }) = GuestMessage::parse(json.as_bytes()).unwrap()
    else {
        panic!("no boot message");
    };
    assert_eq!(message.to_string(), "a?b");
}

proptest! {
    #[test]
    fn no_bytes_break_the_parsers(payload: Vec<u8>, kind in 0..8_u8) {
        let payload = [&[kind][..], &payload].concat();
        let _ = (HostMessage::parse(&payload), GuestMessage::parse(&payload), Order::parse(&payload[1..]));
    }
}
