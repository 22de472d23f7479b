//! The guest of a vm box, played on the descriptor of its tap: builds and reads raw frames.

use crate::world::TestBox;
use std::{
    fs::File,
    io::{Read, Write},
    net::Ipv4Addr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tine_machine::net::GuestNetwork;

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
pub const ARP: u16 = 0x0806;
pub const IPV4: u16 = 0x0800;

/// The size of the `virtio_net_hdr` before each frame.
const HEADER: usize = 10;
const PORT: u16 = 4000;
const PATIENCE: Duration = Duration::from_millis(700);

/// A machine at the other end of a tap. Answers ARP, ICMP echo and UDP (with the sender's address) for as long as
/// the device is there.
pub struct Guest {
    pub network: GuestNetwork,
    tap: Arc<File>,
    frames: mpsc::Receiver<Vec<u8>>,
}

impl Guest {
    pub fn of(running: &mut TestBox) -> Self {
        let network = running.attachment.guest.unwrap();
        assert_eq!(Some(network.address), running.attachment.address);
        let tap = Arc::new(File::from(running.attachment.take_tap().unwrap()));
        assert!(running.attachment.take_tap().is_none(), "the tap was taken twice");
        let (tell, frames) = mpsc::channel();
        let mine = tap.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok(length) = mine.as_ref().read(&mut buffer) {
                let frame = &buffer[HEADER..length];
                if let Some(answer) = answer(&network, frame) {
                    write(&mine, &answer);
                }
                let _ = tell.send(frame.to_vec());
            }
        });
        Self { network, tap, frames }
    }

    /// Sends a frame; the bridge has done with it on return.
    pub fn send(&self, frame: &[u8]) {
        write(&self.tap, frame);
    }

    /// The first frame that `wanted` takes.
    pub fn find<T>(&self, wanted: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(found) = wanted(&self.frames.recv_timeout(left).ok()?) {
                return Some(found);
            }
        }
    }

    /// Which of the marks arrive, up to the last of them. Frames keep their order.
    pub fn marks_until(&self, last: u8) -> Vec<u8> {
        let mut marks = Vec::new();
        while marks.last() != Some(&last) {
            marks.push(self.find(mark_of).expect("the last mark did not arrive"));
        }
        marks
    }

    /// Asks for the hardware address that has an address.
    pub fn hardware_of(&self, address: Ipv4Addr) -> Option<Mac> {
        let GuestNetwork { mac, address: mine, .. } = self.network;
        self.send(&ethernet(BROADCAST, mac, ARP, &arp(1, (mac, mine), ([0; 6], address))));
        let reply = (2, address.octets());
        self.find(|frame| {
            let is_reply = kind(frame) == ARP && (frame[21], &frame[28..32]) == (reply.0, &reply.1[..]);
            is_reply.then(|| frame[22..28].try_into().unwrap())
        })
    }

    /// What a UDP server answers, asked by way of the gateway when it is not a neighbour.
    pub fn get_udp(&self, address: Ipv4Addr, port: u16) -> Option<String> {
        let mask = u32::MAX << (32 - self.network.prefix);
        let is_near = (u32::from(address) ^ u32::from(self.network.address)) & mask == 0;
        let hop = self.hardware_of(if is_near { address } else { self.network.gateway })?;
        let packet = ipv4(self.network.address, address, 17, &udp(PORT, port, b"?"));
        self.send(&ethernet(hop, self.network.mac, IPV4, &packet));
        self.find(|frame| {
            let (from, datagram) = udp_of(frame)?;
            let is_answer =
                from == address && datagram[..4] == [port.to_be_bytes(), PORT.to_be_bytes()].concat();
            is_answer.then(|| String::from_utf8_lossy(&datagram[8..]).into_owned())
        })
    }

    /// Whether a neighbour answers an ICMP echo request.
    pub fn pings(&self, address: Ipv4Addr) -> bool {
        let Some(hop) = self.hardware_of(address) else { return false };
        let packet = ipv4(self.network.address, address, 1, &echo(8, b"abcd"));
        self.send(&ethernet(hop, self.network.mac, IPV4, &packet));
        let is_reply =
            |f: &[u8]| kind(f) == IPV4 && f[23] == 1 && f[34] == 0 && f[26..30] == address.octets();
        self.find(|frame| is_reply(frame).then_some(())).is_some()
    }
}

fn write(mut tap: &File, frame: &[u8]) {
    let _ = tap.write(&[&[0; HEADER], frame].concat());
}

/// What a well-behaved machine answers.
fn answer(network: &GuestNetwork, frame: &[u8]) -> Option<Vec<u8>> {
    let (mac, mine) = (network.mac, network.address.octets());
    let from: Mac = frame.get(6..12)?.try_into().ok()?;
    let reply = match kind(frame) {
        ARP if frame[21] == 1 && frame[38..42] == mine => {
            let asker = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).unwrap());
            arp(2, (mac, network.address), (from, asker))
        }
        IPV4 if frame[30..34] == mine && frame[23] == 17 => {
            let (asker, datagram) = udp_of(frame)?;
            let port = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
            // What comes to the port that questions are sent from is an answer.
            (port(2) != PORT).then_some(())?;
            ipv4(network.address, asker, 17, &udp(port(2), port(0), asker.to_string().as_bytes()))
        }
        _ => return None,
    };
    Some(ethernet(from, mac, kind(frame), &reply))
}

/// What a frame holds; nothing known when it is shorter than what is looked at.
fn kind(frame: &[u8]) -> u16 {
    if frame.len() < 42 { 0 } else { u16::from_be_bytes([frame[12], frame[13]]) }
}

fn udp_of(frame: &[u8]) -> Option<(Ipv4Addr, Vec<u8>)> {
    let is_udp = kind(frame) == IPV4 && frame[14] == 0x45 && frame[23] == 17;
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap());
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    is_udp.then(|| (from, frame[34..end].to_vec()))
}

/// A frame's last byte, of frames that end in a mark.
fn mark_of(frame: &[u8]) -> Option<u8> {
    let (mark, before) = frame.split_last()?;
    before.ends_with(b"mark").then_some(*mark)
}

pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

pub fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    [&fixed[..], &sender.0, &sender.1.octets(), &target.0, &target.1.octets()].concat()
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend([from.octets(), to.octets()].concat());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&header, payload].concat()
}

pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let header = [from, to, length, 0].map(u16::to_be_bytes).concat();
    [&header, data].concat()
}

fn echo(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = [&[kind, 0, 0, 0, 0, 7, 0, 1], data].concat();
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum);
    packet
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap()).to_be_bytes()
}
