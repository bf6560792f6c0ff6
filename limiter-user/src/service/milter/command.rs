//! What the mail server says, taken apart: pure, and never more than what is in the frame.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::frame::Frame;

/// What the mail server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// What it can do.
    Negotiate(Offer),
    /// Names and values for a step.
    Macros(Macros<'a>),
    /// A client connected; none: it came in no way that has addresses.
    Connect(Option<SocketAddr>),
    /// MAIL: a message begins.
    Mail(&'a [u8]),
    /// RCPT: one more recipient.
    Recipient(&'a [u8]),
    /// A step that changes nothing here.
    Step(Step),
    /// The message is there, and waits for an answer.
    EndOfMessage,
    /// The message ends without one.
    Abort,
    /// The connection ends.
    Quit,
    /// The client's connection ends, and the next begins over this one.
    QuitAndReuse,
}

/// Steps of which nothing is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// HELO.
    Helo,
    /// DATA.
    Data,
    /// A header.
    Header,
    /// The last header was before.
    EndOfHeaders,
    /// A piece of the body.
    Body,
    /// A command that the mail server does not know.
    Unknown,
}

/// The mail server's side of the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The protocol's version.
    pub(super) version: u32,
    /// What a milter may do.
    pub(super) actions: u32,
    /// What it need not send, and what need not be answered.
    pub(super) steps: u32,
}

/// Why a frame is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// No such letter.
    #[error("the unknown command {0:#04x}")]
    Unknown(u8),
    /// The letter is known, and the rest does not fit.
    #[error("the command {0:?} is broken")]
    Broken(char),
}

impl<'a> Command<'a> {
    /// Takes a frame apart.
    pub(super) fn read(frame: &'a Frame) -> Result<Self, CommandError> {
        let data = frame.data.as_slice();
        let broken = CommandError::Broken(char::from(frame.letter));
        Ok(match frame.letter {
            b'O' => Self::Negotiate(Offer::read(data).ok_or(broken)?),
            b'D' => {
                let (stage, rest) = data.split_first().ok_or(broken)?;
                Self::Macros(Macros {
                    stage: *stage,
                    rest,
                })
            }
            b'C' => Self::Connect(client(data).ok_or(broken)?),
            b'M' => Self::Mail(text(data).ok_or(broken)?.0),
            b'R' => Self::Recipient(text(data).ok_or(broken)?.0),
            b'H' => Self::Step(Step::Helo),
            b'T' => Self::Step(Step::Data),
            b'L' => Self::Step(Step::Header),
            b'N' => Self::Step(Step::EndOfHeaders),
            b'B' => Self::Step(Step::Body),
            b'U' => Self::Step(Step::Unknown),
            b'E' => Self::EndOfMessage,
            b'A' => Self::Abort,
            b'Q' => Self::Quit,
            b'K' => Self::QuitAndReuse,
            letter => return Err(CommandError::Unknown(letter)),
        })
    }
}

impl Offer {
    fn read(data: &[u8]) -> Option<Self> {
        let mut numbers = data
            .chunks_exact(4)
            .map_while(|chunk| <[u8; 4]>::try_from(chunk).ok())
            .map(u32::from_be_bytes);
        Some(Self {
            version: numbers.next()?,
            actions: numbers.next()?,
            steps: numbers.next()?,
        })
    }
}

/// Names and values that the mail server sends ahead of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Macros<'a> {
    /// The letter of the step's command.
    pub(super) stage: u8,
    rest: &'a [u8],
}

impl<'a> Iterator for Macros<'a> {
    /// The name without braces, and the value.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = text(self.rest)?;
        let (value, rest) = text(rest)?;
        self.rest = rest;
        let bare = name
            .strip_prefix(b"{")
            .and_then(|name| name.strip_suffix(b"}"));
        Some((bare.unwrap_or(name), value))
    }
}

/// What is before the first zero byte, and behind it.
fn text(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = data.iter().position(|&byte| byte == 0)?;
    Some((data.get(..end)?, data.get(end + 1..)?))
}

/// The client of a connection, from its name, how it came, port and address: none if it is broken,
/// and none inside if it came in no way that has addresses.
fn client(data: &[u8]) -> Option<Option<SocketAddr>> {
    let (_name, rest) = text(data)?;
    let (family, rest) = rest.split_first()?;
    if !matches!(family, b'4' | b'6') {
        return Some(None);
    }
    let (port, rest) = rest.split_first_chunk::<2>()?;
    // Some leave the zero byte at the end out.
    let address = text(rest).map_or(rest, |(address, _)| address);
    Some(self::address(address).map(|ip| SocketAddr::new(ip, u16::from_be_bytes(*port))))
}

/// An address as mail servers write it: an IPv6 address may have `IPv6:` before it, or brackets around.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let (head, tail) = text.split_at_checked(5).unwrap_or(("", text));
    let found = if head.eq_ignore_ascii_case("ipv6:") {
        Ipv6Addr::from_str(tail).map(IpAddr::from).ok()?
    } else {
        Ipv4Addr::from_str(text)
            .map(IpAddr::from)
            .or_else(|_| Ipv6Addr::from_str(text).map(IpAddr::from))
            .ok()?
    };
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(letter: u8, data: &[u8]) -> Frame {
        Frame {
            letter,
            data: data.to_vec(),
        }
    }

    #[test]
    fn clients_are_read_in_every_form() {
        for (data, client) in [
            (
                b"a.example\x004\x04\xd2192.0.2.7\0".as_slice(),
                Some("192.0.2.7:1234"),
            ),
            (
                b"a.example\x004\x04\xd2192.0.2.7".as_slice(),
                Some("192.0.2.7:1234"),
            ),
            (b"\x006\0\x19IPv6:2001:db8::1\0", Some("[2001:db8::1]:25")),
            (b"\x006\0\x192001:db8::1\0", Some("[2001:db8::1]:25")),
            (b"\x006\0\x19::ffff:192.0.2.7\0", Some("192.0.2.7:25")),
            (b"\x004\0\0nonsense\0", None),
            (b"\x00U", None),
            (b"\x00L\0\0/run/a.sock\0", None),
        ] {
            let frame = frame(b'C', data);
            let expected = client.map(|client| client.parse().unwrap());
            assert_eq!(Command::read(&frame), Ok(Command::Connect(expected)));
        }
        for broken in [
            b"".as_slice(),
            b"name",
            b"name\0",
            b"name\x004",
            b"name\x004\0",
        ] {
            let frame = frame(b'C', broken);
            assert_eq!(Command::read(&frame), Err(CommandError::Broken('C')));
        }
    }

    #[test]
    fn macros_come_in_pairs() {
        let frame = frame(b'D', b"Mi\0ABC\0{auth_authen}\0alice\0{x}\0\0odd\0");
        let Ok(Command::Macros(macros)) = Command::read(&frame) else {
            panic!("these are macros");
        };
        assert_eq!(macros.stage, b'M');
        let pairs: Vec<_> = macros.collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"i", b"ABC"), (b"auth_authen", b"alice"), (b"x", b"")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn an_offer_has_three_numbers() {
        let offer = frame(b'O', b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xffmore");
        let expected = Offer {
            version: 6,
            actions: 0x1ff,
            steps: 0x1f_ffff,
        };
        assert_eq!(Command::read(&offer), Ok(Command::Negotiate(expected)));
        let short = frame(b'O', b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff");
        assert_eq!(Command::read(&short), Err(CommandError::Broken('O')));
        assert_eq!(
            Command::read(&frame(b'z', b"")),
            Err(CommandError::Unknown(b'z'))
        );
    }

    #[test]
    fn addresses_that_are_none() {
        for text in [
            "",
            "IPv6:",
            "IPv6:192.0.2.1",
            "192.0.2",
            "host",
            "[192.0.2.1",
        ] {
            assert_eq!(address(text.as_bytes()), None, "{text}");
        }
        assert_eq!(address(b"[::1]"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(address(&[0xff, 0xfe]), None);
    }
}
