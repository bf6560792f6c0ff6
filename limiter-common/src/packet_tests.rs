use super::*;
use crate::address::from_v4;

/// An Ethernet frame of IPv4 with a TCP header to `port`.
fn frame(port: u16) -> std::vec::Vec<u8> {
    let mut bytes = std::vec![0_u8; 12];
    bytes.extend([0x08, 0x00]);
    bytes.extend([
        0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 203, 0, 113, 5,
    ]);
    bytes.extend(4321_u16.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    bytes.extend(*b"EHLO");
    bytes
}

#[test]
fn an_ordinary_frame() {
    let bytes = frame(25);
    let packet = Packet::of_frame(&bytes[..], 58);
    assert_eq!(packet.kind, Kind::Tcp);
    assert_eq!((packet.source_port, packet.destination_port), (4321, 25));
    assert_eq!(packet.source, from_v4([192, 0, 2, 1]));
    assert_eq!(packet.destination, from_v4([203, 0, 113, 5]));
    assert_eq!((packet.seq, packet.ack), (7, 9));
    assert_eq!((packet.payload, packet.payload_len), (54, 4));
    assert!(packet.opens() && !packet.truncated);
}
